//! `outcry audit raw`: a request and its answers as they are kept whole, found by the name of the auction or the id of the
//! request.
use super::{AuditError, Out, failed, progress::Progress, say};
use crate::raw::store::is_ours;
use clap::Args;
use flate2::read::MultiGzDecoder;
use outcry::{json::Cursor, openrtb::text::Text, record::when::utc, units::EventId};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

#[derive(Args, Debug)]
pub(super) struct RawArgs {
    /// The auction's event id (our `bidid`: 36 hexadecimal digits), or the request's `id`.
    id: String,
    /// The directory of the files, or the `state_dir` it is in.
    dir: PathBuf,
    /// Lines as they stand in the files: a JSON object each.
    #[arg(long)]
    json: bool,
}

/// Longer than any line that the stream writes.
const LINE_MAX: u64 = 64 << 20;

/// What stands at the beginning of a line.
#[derive(Clone, Copy, Default)]
struct Front<'a> {
    event: &'a [u8],
    id: Text,
    wall_ms: &'a [u8],
    exchange: &'a [u8],
    what: &'a [u8],
    dsp: &'a [u8],
    status: &'a [u8],
    /// Not read, and so not checked: up to the end of the line's object.
    body: &'a [u8],
}

impl<'a> Front<'a> {
    /// `None`: not a line of the stream.
    fn of(line: &'a [u8]) -> Option<Front<'a>> {
        let mut c = Cursor::new(line, 0).ok()?;
        if c.peek() != b'{' {
            return None;
        }
        c.enter().ok()?;
        let (mut front, mut first) = (Front::default(), true);
        while let Some(key) = c.key(&mut first).ok()? {
            let text = c.peek() == b'"';
            if text && key.text.raw(line) == b"id" {
                front.id = c.string().ok()?;
                continue;
            }
            if key.text.raw(line) == b"body" {
                front.body = line.get(c.at()..)?.strip_suffix(b"}")?;
                return Some(front);
            }
            let value = match text {
                true => c.string().ok()?.raw(line),
                false => c.skip_span().ok()?.of(line),
            };
            match key.text.raw(line) {
                b"event" => front.event = value,
                b"wall_ms" => front.wall_ms = value,
                b"exchange" => front.exchange = value,
                b"what" => front.what = value,
                b"dsp" => front.dsp = value,
                b"status" => front.status = value,
                _ => {}
            }
        }
        None
    }
}

/// What is looked for.
struct Wanted<'a> {
    id: &'a [u8],
    /// It is the name of an auction, which no second one has.
    event: bool,
}

/// True: found.
pub(super) fn run(args: &RawArgs) -> Result<bool, AuditError> {
    let RawArgs { id, dir, json } = args;
    let wanted = Wanted { id: id.as_bytes(), event: EventId::parse(id.as_bytes()).is_some() };
    let files = files(dir)?;
    let mut progress = Progress::new(files.iter().map(|f| f.1).sum());
    let (mut out, mut found) = (Out::new(), 0);
    for (path, bytes) in &files {
        progress.at(0);
        let file = File::open(path).map_err(|source| AuditError::Read { path: path.clone(), source })?;
        let lines = BufReader::new(MultiGzDecoder::new(BufReader::new(file)));
        match scan(lines, &wanted, *json, &mut found, &mut out.0) {
            Ok(()) => {}
            Err(Failed::Write(e)) => return Err(failed(e)),
            Err(Failed::Read(e)) => {
                say(format_args!("{}: ends in a torn block ({e}): what is before it was read", path.display()));
            }
        }
        progress.done(*bytes);
        // All of an auction is in one block.
        if wanted.event && found > 0 {
            break;
        }
    }
    out.end()?;
    if found == 0 {
        say(format_args!(
            "{id} is not in {} files of {}: only one auction in raw.one_in is kept, for raw.keep_days; what was dropped is counted in outcry_raw_dropped_total",
            files.len(),
            dir.display()
        ));
    }
    Ok(found > 0)
}

/// The stream's files in `dir`, or in `raw` below it, in the order in which they were written.
fn files(dir: &Path) -> Result<Vec<(PathBuf, u64)>, AuditError> {
    let list = |dir: &Path| {
        let entries =
            fs::read_dir(dir).map_err(|source| AuditError::RawDirectory { path: dir.to_path_buf(), source })?;
        let name = |path: &PathBuf| path.file_name().is_some_and(|n| is_ours(&n.to_string_lossy()));
        let with_bytes = |path: PathBuf| fs::metadata(&path).map(|meta| (path, meta.len())).ok();
        let mut files: Vec<_> = entries.flatten().map(|e| e.path()).filter(name).filter_map(with_bytes).collect();
        files.sort();
        Ok(files)
    };
    let found = list(dir)?;
    match dir.join("raw") {
        below if found.is_empty() && below.is_dir() => list(&below),
        _ => Ok(found),
    }
}

enum Failed {
    Read(std::io::Error),
    Write(std::io::Error),
}

fn scan(
    mut lines: impl BufRead,
    wanted: &Wanted<'_>,
    json: bool,
    found: &mut u64,
    out: &mut impl Write,
) -> Result<(), Failed> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(Failed::Read)? == 0 {
            return Ok(());
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let Some(front) = Front::of(line) else { continue };
        let is_it = if wanted.event { front.event == wanted.id } else { front.id.is(line, wanted.id) };
        if is_it {
            *found += 1;
            print(line, &front, json, out).map_err(Failed::Write)?;
        }
    }
}

fn print(line: &[u8], front: &Front<'_>, json: bool, out: &mut impl Write) -> std::io::Result<()> {
    if json {
        out.write_all(line)?;
        return out.write_all(b"\n");
    }
    let text = String::from_utf8_lossy;
    let time = text(front.wall_ms).parse().map_or_else(|_| "?".to_owned(), utc);
    match front.what {
        b"request" => write!(out, "{} {time}: request of {}", text(front.event), text(front.exchange))?,
        b"answer" => write!(out, "answer of {}, {}", text(front.dsp), text(front.status))?,
        what => write!(out, "{}, {}", text(what), text(front.status))?,
    }
    match front.body.strip_prefix(b"null") {
        Some(b"") => out.write_all(b", no body\n"),
        Some(behind) => {
            let bytes = behind.strip_prefix(b",\"unreadable\":").unwrap_or(behind);
            writeln!(out, ", {} bytes that are no JSON", text(bytes))
        }
        None => {
            out.write_all(b"\n")?;
            out.write_all(front.body)?;
            out.write_all(b"\n")
        }
    }
}
