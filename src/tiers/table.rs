//! Rows as columns: what the columns of a table are, and rows that wait in them until a file is written.
//! Owns: the cells. Called by: [`super::gather`] (fills), `cores/tiers` (writes and reads files). Never: knows a file's format.

/// What a column's values are, and so what a reader takes them for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Milliseconds since 1970, UTC.
    Time,
    /// A number.
    Int,
    /// A decimal with so many places: the number that is stored is the amount times ten to their power.
    Decimal(u8),
    /// UTF-8.
    Text,
    /// True or false.
    Flag,
}

/// A column. Names and kinds are for ever: new columns are added at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub kind: Kind,
    /// A row may have none.
    pub optional: bool,
}

/// A column that every row has.
pub(super) const fn always(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, optional: false }
}

/// A column that a row may lack.
pub(super) const fn perhaps(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, optional: true }
}

/// One value of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// There is none.
    None,
    /// Of a [`Kind::Time`], [`Kind::Int`] or [`Kind::Decimal`].
    Int(i64),
    /// Of a [`Kind::Text`].
    Text(&'a [u8]),
    /// Of a [`Kind::Flag`].
    Flag(bool),
}

impl<'a> Value<'a> {
    /// A text, or nothing if it is empty.
    pub fn some_text(text: &'a [u8]) -> Value<'a> {
        if text.is_empty() { Value::None } else { Value::Text(text) }
    }

    /// A count, or a moment.
    pub fn count(n: u64) -> Value<'a> {
        Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// A number, if there is one.
    pub fn some_int(value: Option<impl Into<i64>>) -> Value<'a> {
        value.map_or(Value::None, |v| Value::Int(v.into()))
    }
}

/// The values of a column. Where a row has none, something stands in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cells {
    /// Numbers.
    Ints(Vec<i64>),
    /// Texts one behind the other, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
    /// True and false.
    Flags(Vec<bool>),
}

impl Cells {
    fn of(kind: Kind) -> Cells {
        match kind {
            Kind::Time | Kind::Int | Kind::Decimal(_) => Cells::Ints(Vec::new()),
            Kind::Text => Cells::Texts(Vec::new(), Vec::new()),
            Kind::Flag => Cells::Flags(Vec::new()),
        }
    }
}

/// Rows of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows {
    columns: &'static [Column],
    cells: Vec<(Cells, Vec<bool>)>,
    len: usize,
}

impl Rows {
    /// None yet.
    pub fn new(columns: &'static [Column]) -> Rows {
        let cells = columns.iter().map(|c| (Cells::of(c.kind), Vec::new())).collect();
        Rows { columns, cells, len: 0 }
    }

    /// Its columns.
    pub fn columns(&self) -> &'static [Column] {
        self.columns
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one: a value for each column, in their order. What is of another kind than its column counts as none; what a
    /// reader hands in was checked against the columns before.
    pub fn push(&mut self, row: &[Value<'_>]) {
        for (at, (cells, there)) in self.cells.iter_mut().enumerate() {
            let value = row.get(at).copied().unwrap_or(Value::None);
            let known = match (cells, value) {
                (Cells::Ints(all), Value::Int(value)) => {
                    all.push(value);
                    true
                }
                (Cells::Flags(all), Value::Flag(value)) => {
                    all.push(value);
                    true
                }
                (Cells::Texts(all, ends), Value::Text(text)) => {
                    match std::str::from_utf8(text) {
                        Ok(_) => all.extend_from_slice(text),
                        Err(_) => all.extend_from_slice(String::from_utf8_lossy(text).as_bytes()),
                    }
                    ends.push(all.len());
                    true
                }
                (Cells::Ints(all), _) => {
                    all.push(0);
                    false
                }
                (Cells::Flags(all), _) => {
                    all.push(false);
                    false
                }
                (Cells::Texts(all, ends), _) => {
                    ends.push(all.len());
                    false
                }
            };
            there.push(known);
        }
        self.len += 1;
    }

    /// A value.
    pub fn value(&self, column: usize, row: usize) -> Value<'_> {
        let Some((cells, there)) = self.cells.get(column) else { return Value::None };
        if there.get(row) != Some(&true) {
            return Value::None;
        }
        match cells {
            Cells::Ints(all) => Value::Int(all[row]),
            Cells::Flags(all) => Value::Flag(all[row]),
            Cells::Texts(all, ends) => {
                let from = row.checked_sub(1).map_or(0, |before| ends[before]);
                Value::Text(&all[from..ends[row]])
            }
        }
    }

    /// A number, if there is one.
    pub fn int(&self, column: usize, row: usize) -> Option<i64> {
        if let Value::Int(value) = self.value(column, row) { Some(value) } else { None }
    }

    /// A text; empty if there is none.
    pub fn text(&self, column: usize, row: usize) -> &[u8] {
        if let Value::Text(text) = self.value(column, row) { text } else { &[] }
    }

    /// Is it true?
    pub fn flag(&self, column: usize, row: usize) -> bool {
        self.value(column, row) == Value::Flag(true)
    }

    /// The rows in the order of a column of numbers; those of the same number as they came.
    pub fn by(&self, column: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len).collect();
        order.sort_by_key(|row| self.int(column, *row));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] =
        &[always("time", Kind::Time), perhaps("name", Kind::Text), perhaps("ok", Kind::Flag), perhaps("n", Kind::Int)];

    #[test]
    fn what_is_pushed_is_there() {
        let mut rows = Rows::new(COLUMNS);
        rows.push(&[Value::Int(3), Value::Text(b"a"), Value::Flag(true), Value::None]);
        rows.push(&[Value::Int(1), Value::None, Value::None, Value::Int(-7)]);
        rows.push(&[Value::Int(1), Value::Text(b"\xff"), Value::Flag(false)]);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.by(0), [1, 2, 0]);
        assert_eq!((rows.text(1, 0), rows.text(1, 1), rows.value(1, 1)), (&b"a"[..], &b""[..], Value::None));
        assert_eq!(rows.text(1, 2), "\u{fffd}".as_bytes(), "a reader of Parquet may refuse a file for one such text");
        assert_eq!((rows.int(3, 0), rows.int(3, 1)), (None, Some(-7)));
        assert_eq!((rows.flag(2, 0), rows.flag(2, 1), rows.flag(2, 2)), (true, false, false));
        assert_eq!(rows.value(9, 0), Value::None);
        // Of another kind: as if there were none.
        rows.push(&[Value::Text(b"x"), Value::Int(1), Value::Int(1), Value::Flag(true)]);
        assert!((0..4).all(|column| rows.value(column, 3) == Value::None));
    }
}
