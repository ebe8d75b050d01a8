//! Rows for people: each column as wide as its longest cell.
//! Owns: the rows. Called by: `report`, `outcry audit`. Never: lets a text that came from outside move the cursor.
use std::fmt::Write;

/// A text from outside as a cell: what is not UTF-8 reads as U+FFFD; control characters and those that turn the direction of
/// writing stand as `\u{1b}`; nothing is a dash.
pub fn plain(text: &[u8]) -> String {
    if text.is_empty() {
        return "-".to_string();
    }
    let mut out = String::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        let turns =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Columns {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// With these headings; numbers stand to the right in columns whose heading begins with `>`.
    pub fn new(headings: &[&str]) -> Columns {
        let right = headings.iter().map(|h| h.starts_with('>')).collect();
        let head = headings.iter().map(|h| h.trim_start_matches('>').to_string()).collect();
        Columns { right, rows: vec![head] }
    }

    /// Adds a row of as many cells as there are headings.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.cells(cells.into());
    }

    /// The same, of a number of columns that depends on what is shown.
    pub fn cells(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.right.len());
        self.rows.push(cells);
    }

    /// Rows without the headings.
    pub fn len(&self) -> usize {
        self.rows.len() - 1
    }

    /// There are only headings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends them, each line behind two spaces.
    pub fn write(&self, out: &mut String) {
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let (left, fill) = (line.is_empty(), width.saturating_sub(cell.chars().count()));
                line += if left { "" } else { "  " };
                let (before, behind) = if *right { (fill, 0) } else { (0, fill) };
                let _ = write!(line, "{:before$}{cell}{:behind$}", "", "");
            }
            let _ = writeln!(out, "  {}", line.trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let mut columns = Columns::new(&["a", ">number", "c"]);
        columns.row(["lo\u{e9}ng".into(), "7".into(), String::new()]);
        columns.row(["x".into(), "12345678".into(), "y".into()]);
        let mut out = String::new();
        columns.write(&mut out);
        assert_eq!(out, "  a        number  c\n  lo\u{e9}ng         7\n  x      12345678  y\n");
    }

    #[test]
    fn no_text_moves_the_cursor() {
        assert_eq!(plain(b"a\x1b[2J\n\xff"), "a\\u{1b}[2J\\u{a}\u{fffd}");
        assert_eq!(plain("\u{202e}x".as_bytes()), "\\u{202e}x");
        assert_eq!(plain(b""), "-");
    }
}
