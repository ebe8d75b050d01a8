//! What the load generator and a simulated DSP write down of each exchange of messages, for a judge outside of the
//! exchange: JSON, a line each, as documented at [`Log::answer`], [`Log::broken`] and [`Log::call`].
//! Owns: a file and the lines that are not in it yet. Called by: `generator`, `dsp_sim`. Never: writes part of a line,
//! unless it is killed within the write.
//! Full: what the disk refuses is lost to the log; [`Log::end`] says so.
use super::{bids::text, json::Value};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Lines are handed to the kernel at the latest when there are so many bytes of them.
const PENDING_MAX: usize = 256 * 1024;

/// A log of messages.
#[derive(Debug)]
pub struct Log {
    file: File,
    lines: Vec<u8>,
    /// The bids of the message that is being written down.
    bids: Vec<u8>,
    /// Microseconds since 1970 at `start`.
    epoch_us: u128,
    start: Instant,
    failed: Option<io::Error>,
}

impl Log {
    /// A log that goes on at the end of the file, which is made if it is not there.
    pub fn append_to(path: &Path) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let epoch_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let lines = Vec::with_capacity(2 * PENDING_MAX);
        Ok(Log { file, lines, bids: Vec::new(), epoch_us, start: Instant::now(), failed: None })
    }

    /// Notes what a bid response says, for the line that is written next: `bidid`, `cur`, `nbr`, and of each bid its
    /// `id`, `impid`, `price` in micro-units, `seat`, `cid`, `crid`, `w`, `h`.
    pub fn note(&mut self, answer: Value<'_>) {
        let out = &mut self.bids;
        out.clear();
        for key in ["bidid", "cur"] {
            member(out, key, answer.text_of(key));
        }
        if let Some(nbr) = answer.number_of("nbr") {
            let _ = write!(out, ",\"nbr\":{nbr}"); // a vector takes everything
        }
        let (start, mut first) = (out.len(), true);
        out.extend_from_slice(b",\"bids\":[");
        for seat in answer.list("seatbid") {
            for bid in seat.list("bid") {
                out.extend_from_slice(if first { b"{" } else { b",{" });
                first = false;
                let price = bid.number_of("price").unwrap_or(0.0);
                let _ = write!(out, "\"micros\":{:.0}", price * 1e6);
                member(out, "seat", seat.text_of("seat"));
                for key in ["id", "impid", "cid", "crid"] {
                    member(out, key, bid.text_of(key));
                }
                for key in ["w", "h"] {
                    if let Some(n) = bid.number_of(key) {
                        let _ = write!(out, ",\"{key}\":{n}");
                    }
                }
                out.push(b'}');
            }
        }
        if first {
            out.truncate(start);
        } else {
            out.push(b']');
        }
    }

    /// An answer that came whole:
    /// `{"id":"...","us":...,"status":200,"bidid":"...","cur":"USD","bids":[...]}`, `us` in microseconds since 1970.
    /// `fault`: why it is wrong, as a member of that name.
    pub fn answer(&mut self, id: &[u8], status: u16, fault: Option<&str>) {
        self.begin(id);
        let _ = write!(self.lines, ",\"status\":{status}");
        self.finish(fault);
    }

    /// A request that was sent and has no whole answer: `{"id":"...","us":...,"broken":"cut off"}`.
    pub fn broken(&mut self, id: &[u8], why: &str) {
        self.begin(id);
        let _ = write!(self.lines, ",\"broken\":\"{why}\"");
        self.finish(None);
    }

    /// A call of a DSP, and what the DSP set out to answer:
    /// `{"id":"...","us":...,"delay_us":2000,"cur":"USD","bids":[...]}`. `fault`: how it is wrong on purpose, or that it
    /// is late on purpose.
    pub fn call(&mut self, id: &[u8], delay_us: u64, fault: Option<&str>) {
        self.begin(id);
        let _ = write!(self.lines, ",\"delay_us\":{delay_us}");
        self.finish(fault);
    }

    /// A notice that a DSP was told: `{"notice":"/won?...","us":...}`.
    pub fn told(&mut self, target: &str) {
        let us = self.epoch_us + self.start.elapsed().as_micros();
        self.lines.extend_from_slice(b"{\"notice\":");
        text(&mut self.lines, target);
        let _ = writeln!(self.lines, ",\"us\":{us}}}");
    }

    fn begin(&mut self, id: &[u8]) {
        let us = self.epoch_us + self.start.elapsed().as_micros();
        self.lines.extend_from_slice(b"{\"id\":");
        text(&mut self.lines, &String::from_utf8_lossy(id));
        let _ = write!(self.lines, ",\"us\":{us}");
    }

    fn finish(&mut self, fault: Option<&str>) {
        member(&mut self.lines, "fault", fault);
        self.lines.append(&mut self.bids);
        self.lines.extend_from_slice(b"}\n");
        if self.lines.len() >= PENDING_MAX {
            self.flush();
        }
    }

    /// Hands all lines to the kernel, in one write where it takes them all.
    pub fn flush(&mut self) {
        if !self.lines.is_empty() {
            let written = self.file.write_all(&self.lines);
            self.lines.clear();
            self.failed = self.failed.take().or(written.err());
        }
    }

    /// The end of the log. `Err`: something is missing from it.
    pub fn end(&mut self) -> io::Result<()> {
        self.flush();
        self.failed.take().map_or(Ok(()), Err)
    }
}

fn member(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        let _ = write!(out, ",\"{key}\":");
        text(out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::Log;
    use crate::lab::json::Reader;

    #[test]
    fn a_line_for_each_message_and_nothing_of_the_one_before() {
        let path = std::env::temp_dir().join(format!("outcry-log-{}", std::process::id()));
        let mut log = Log::append_to(&path).expect("a log");
        let mut answer = br#"{"id":"x","bidid":"e\"1","cur":"EUR","seatbid":[{"seat":"s","bid":[
            {"id":"b","impid":"1","price":1.2345,"crid":"c","w":300,"h":250},{"id":"d","impid":"2","price":0.000001}]}]}"#
            .to_vec();
        assert!(Reader::default().read(&mut answer, |root| log.note(root)).is_some());
        log.answer(b"r1", 200, None);
        log.broken(b"r2", "cut off");
        log.end().expect("is written");
        let mut log = Log::append_to(&path).expect("the same log");
        assert!(
            Reader::default()
                .read(&mut br#"{"id":"x","nbr":2,"seatbid":[]}"#.to_vec(), |root| log.note(root))
                .is_some()
        );
        log.answer(b"r3", 200, Some("wrong id"));
        log.call(b"r4", 7, None);
        log.end().expect("is written");

        let lines = std::fs::read_to_string(&path).expect("read");
        std::fs::remove_file(&path).expect("clean up");
        let mut shown = String::new();
        for line in lines.lines() {
            let (before, after) = line.split_once(",\"us\":").expect("a time");
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
            assert_eq!(digits, 16, "microseconds since 1970: {line}");
            shown += &format!("{before}{}\n", &after[digits..]);
        }
        assert_eq!(
            shown,
            "{\"id\":\"r1\",\"status\":200,\"bidid\":\"e\\\"1\",\"cur\":\"EUR\",\"bids\":[\
             {\"micros\":1234500,\"seat\":\"s\",\"id\":\"b\",\"impid\":\"1\",\"crid\":\"c\",\"w\":300,\"h\":250},\
             {\"micros\":1,\"seat\":\"s\",\"id\":\"d\",\"impid\":\"2\"}]}\n\
             {\"id\":\"r2\",\"broken\":\"cut off\"}\n\
             {\"id\":\"r3\",\"status\":200,\"fault\":\"wrong id\",\"nbr\":2}\n\
             {\"id\":\"r4\",\"delay_us\":7}\n"
        );
    }

    #[test]
    fn a_full_disk_is_told() {
        let mut log = Log::append_to(std::path::Path::new("/dev/full")).expect("opens");
        log.broken(b"r", "cut off");
        assert!(log.end().is_err() && log.end().is_ok());
    }
}
