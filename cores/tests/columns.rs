//! Rows as Parquet and back. Readers that are not ours: `scripts/tiers`.
#![cfg(feature = "tiers")]
use bytes::Bytes;
use outcry::tiers::{
    sha256,
    table::{Kind, Rows, Value},
    wins::COLUMNS,
};
use outcry_cores::tiers::columns::{GROUP_ROWS, ReadError, read, write};

/// Rows with and without values, more than a group of them.
fn rows(many: usize) -> Rows {
    let mut rows = Rows::new(COLUMNS);
    for n in 0..many {
        let text = format!("text {}", n % 17);
        let row: Vec<Value<'_>> = COLUMNS
            .iter()
            .map(|c| match c.kind {
                _ if c.optional && n % 3 == 0 => Value::None,
                Kind::Text => Value::Text(text.as_bytes()),
                Kind::Flag => Value::Flag(n % 2 == 0),
                _ => Value::Int((many - n) as i64),
            })
            .collect();
        rows.push(&row);
    }
    rows
}

#[test]
fn rows_come_back_in_the_order_of_their_time() {
    for many in [0, 1, 100, GROUP_ROWS + 3] {
        let known = rows(many);
        let bytes = write(&known).expect("a file");
        assert_eq!(bytes, write(&known).expect("a file"), "the same rows make the same bytes");
        let digest = sha256(&bytes);
        let read = read(bytes.into(), &digest, COLUMNS).expect("rows");
        assert_eq!(read.len(), many);
        for (row, was) in known.by(0).into_iter().enumerate() {
            assert!((0..COLUMNS.len()).all(|c| read.value(c, row) == known.value(c, was)), "row {row} of {many}");
        }
    }
}

/// What an earlier release wrote, without the columns that were added since, is read; and so is a file with more of them.
#[test]
fn columns_go_by_their_names() {
    for (written, read_as) in [(&COLUMNS[..38], COLUMNS), (COLUMNS, &COLUMNS[..38])] {
        let mut known = Rows::new(written);
        known.push(&written.iter().map(|c| value(c.kind)).collect::<Vec<_>>());
        let bytes = write(&known).expect("a file");
        let digest = sha256(&bytes);
        let found = read(bytes.into(), &digest, read_as).expect("rows");
        assert_eq!(found.len(), 1);
        for (at, column) in read_as.iter().enumerate() {
            let expected = if at < 38 { value(column.kind) } else { Value::None };
            assert_eq!(found.value(at, 0), expected, "{}", column.name);
        }
    }
}

fn value(kind: Kind) -> Value<'static> {
    match kind {
        Kind::Text => Value::Text(b"text"),
        Kind::Flag => Value::Flag(true),
        _ => Value::Int(7),
    }
}

#[test]
fn nothing_that_was_altered_is_looked_into() {
    let bytes = write(&rows(50)).expect("a file");
    let digest = sha256(&bytes);
    let altered = |bytes: Vec<u8>| matches!(read(bytes.into(), &digest, COLUMNS), Err(ReadError::Altered));
    for at in 0..bytes.len() {
        let mut other = bytes.clone();
        other[at] ^= 0x41;
        assert!(altered(other) && altered(bytes[..at].to_vec()), "{at}");
    }
    // What is no Parquet, though it is what was exported.
    let other = Bytes::from_static(b"PAR1 no rows PAR1");
    let digest = sha256(&other);
    assert!(matches!(read(other, &digest, COLUMNS), Err(ReadError::Parquet(_))));
}
