//! Rows as Parquet, and back: plain columns, zstd, nothing that a reader of 2015 would not know but its compression.
//! Owns: nothing. Called by: `export`, `verify`, `outcry audit`. Never: writes two files for the same rows; looks into bytes that
//! are not those of their manifest, since the library panics on some that were altered.
use bytes::Bytes;
use outcry::tiers::{
    sha256,
    table::{Column, Kind, Rows, Value},
};
use parquet::{
    basic::{Compression, ZstdLevel},
    column::{reader::ColumnReader, writer::ColumnWriter},
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        properties::{WriterProperties, WriterVersion},
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::{parser::parse_message_type, types::Type},
};
use std::{fmt::Write, sync::Arc};

/// Rows of a group: readers take them in parallel, and pass over those whose statistics say no.
pub const GROUP_ROWS: usize = 65_536;

fn schema(columns: &[Column]) -> Result<Arc<Type>, ParquetError> {
    let mut text = String::from("message outcry {\n");
    for Column { name, kind, optional } in columns {
        let rule = if *optional { "OPTIONAL" } else { "REQUIRED" };
        let _ = match kind {
            Kind::Time => writeln!(text, "{rule} INT64 {name} (TIMESTAMP(MILLIS,true));"),
            Kind::Int => writeln!(text, "{rule} INT64 {name};"),
            Kind::Decimal(places) => writeln!(text, "{rule} INT64 {name} (DECIMAL(18,{places}));"),
            Kind::Text => writeln!(text, "{rule} BYTE_ARRAY {name} (STRING);"),
            Kind::Flag => writeln!(text, "{rule} BOOLEAN {name};"),
        };
    }
    text.push('}');
    parse_message_type(&text).map(Arc::new)
}

/// The bytes of a file with these rows, in the order of their first column, which is their time.
///
/// # Errors
/// What the writer says; no row can be the reason.
pub fn write(rows: &Rows) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        // Without a version: another release writes the same bytes as long as the format is the same.
        .set_created_by("outcry".to_string())
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema(rows.columns())?, Arc::new(properties))?;
    for group in rows.by(0).chunks(GROUP_ROWS) {
        let mut columns = writer.next_row_group()?;
        let mut at = 0;
        while let Some(mut column) = columns.next_column()? {
            one(column.untyped(), rows, at, group)?;
            column.close()?;
            at += 1;
        }
        columns.close()?;
    }
    writer.into_inner()
}

fn one(writer: &mut ColumnWriter<'_>, rows: &Rows, column: usize, group: &[usize]) -> Result<(), ParquetError> {
    let there: Vec<i16> = group.iter().map(|row| (rows.value(column, *row) != Value::None).into()).collect();
    let levels = rows.columns()[column].optional.then_some(&there[..]);
    // A column that every row has gets something for a row that lacks it all the same.
    let values = group.iter().filter(|row| levels.is_none() || rows.value(column, **row) != Value::None);
    match writer {
        ColumnWriter::Int64ColumnWriter(writer) => {
            let values: Vec<i64> = values.map(|row| rows.int(column, *row).unwrap_or(0)).collect();
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let values: Vec<ByteArray> = values.map(|row| ByteArray::from(rows.text(column, *row).to_vec())).collect();
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            let values: Vec<bool> = values.map(|row| rows.flag(column, *row)).collect();
            writer.write_batch(&values, levels, None)?;
        }
        _ => return Err(ParquetError::General("a column of another kind than its schema's".to_string())),
    }
    Ok(())
}

/// What was read of a column in a group.
enum Read {
    Ints(Vec<i64>),
    Texts(Vec<ByteArray>),
    Flags(Vec<bool>),
}

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Other bytes.
    #[error("it is not what was exported: its digest is another than its manifest's")]
    Altered,
    /// Those bytes, and no rows.
    #[error("its rows cannot be read: {0}")]
    Parquet(#[from] ParquetError),
}

/// Reads the rows of a file that has this digest. Columns go by their names: a file may have more of them, and those it lacks hold nothing.
///
/// # Errors
/// [`ReadError`].
pub fn read(bytes: Bytes, digest: &[u8; 32], columns: &'static [Column]) -> Result<Rows, ReadError> {
    if sha256(&bytes) != *digest {
        return Err(ReadError::Altered);
    }
    let file = SerializedFileReader::new(bytes)?;
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let place = |name: &str| (0..schema.num_columns()).find(|at| schema.column(*at).name() == name);
    let mut rows = Rows::new(columns);
    for at in 0..file.num_row_groups() {
        let group = file.get_row_group(at)?;
        let count = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let mut found: Vec<Option<(Read, Vec<i16>)>> = Vec::with_capacity(columns.len());
        for column in columns {
            found.push(match place(column.name) {
                Some(at) => Some(values(group.get_column_reader(at)?, schema.column(at).max_def_level(), count)?),
                None => None,
            });
        }
        let mut next = vec![0; columns.len()];
        for row in 0..count {
            let cells = found.iter().zip(&mut next).map(|(read, next)| cell(read.as_ref(), row, next));
            let cells: Option<Vec<Value<'_>>> = cells.collect();
            rows.push(
                &cells.ok_or_else(|| ParquetError::EOF(format!("row {row} of a group of {count} is not whole")))?,
            );
        }
    }
    Ok(rows)
}

/// A row's value; `next` is the place of the next one that is there. `None`: the column is not whole.
fn cell<'a>(read: Option<&'a (Read, Vec<i16>)>, row: usize, next: &mut usize) -> Option<Value<'a>> {
    let Some((values, levels)) = read else { return Some(Value::None) };
    if levels.get(row).is_some_and(|level| *level == 0) {
        return Some(Value::None);
    }
    let at = *next;
    *next += 1;
    Some(match values {
        Read::Ints(all) => Value::Int(*all.get(at)?),
        Read::Flags(all) => Value::Flag(*all.get(at)?),
        Read::Texts(all) => Value::Text(all.get(at)?.data()),
    })
}

fn values(reader: ColumnReader, levels_max: i16, count: usize) -> Result<(Read, Vec<i16>), ParquetError> {
    let mut levels = Vec::new();
    let wanted = if levels_max > 0 { Some(&mut levels) } else { None };
    let read = match reader {
        ColumnReader::Int64ColumnReader(mut reader) => {
            let mut all = Vec::with_capacity(count);
            reader.read_records(count, wanted, None, &mut all)?;
            Read::Ints(all)
        }
        ColumnReader::ByteArrayColumnReader(mut reader) => {
            let mut all = Vec::with_capacity(count);
            reader.read_records(count, wanted, None, &mut all)?;
            Read::Texts(all)
        }
        ColumnReader::BoolColumnReader(mut reader) => {
            let mut all = Vec::with_capacity(count);
            reader.read_records(count, wanted, None, &mut all)?;
            Read::Flags(all)
        }
        _ => return Err(ParquetError::General("a column of a kind that no release writes".to_string())),
    };
    Ok((read, levels))
}
