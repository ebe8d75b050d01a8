//! A DSP that is told, in the clear or by TLS, and an exchange with it.
#![allow(dead_code, unreachable_pub)] // each test file uses its part
use super::common::{bid_for, ok, read_answer, tls::Authority};
use super::program::{Dir, Serving, allowed};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// How a DSP takes notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Manner {
    #[default]
    Hears,
    /// 503: not now.
    Later,
    /// 404: never.
    Never,
    /// Reads, and says nothing.
    Hangs,
}

#[derive(Default)]
struct Seen {
    manner: Manner,
    told: Vec<String>,
    connections: usize,
    /// Connections whose end was said, and others.
    ended: [usize; 2],
}

/// A DSP that bids for everything, and notes what it is told.
pub struct Dsp {
    /// Where it bids, in the clear.
    pub addr: SocketAddr,
    /// Where it takes notices.
    pub notices: String,
    /// What its keys are beyond those that all have.
    keys: String,
    seen: Arc<Mutex<Seen>>,
}

impl Dsp {
    pub fn new() -> Dsp {
        let seen = Arc::default();
        let addr = listening(None, Arc::clone(&seen), |addr| format!("http://{addr}"));
        Dsp { addr, notices: format!("http://{addr}"), keys: String::new(), seen }
    }

    /// It takes notices behind this certificate, if it is of `by`.
    pub fn by_tls(by: &Authority, config: ServerConfig) -> Dsp {
        let seen = Arc::default();
        let told = listening(Some(Arc::new(config)), Arc::clone(&seen), |addr| format!("https://{addr}"));
        let notices = format!("https://{told}");
        let addr = listening(None, Arc::new(Mutex::new(Seen::default())), |_| notices.clone());
        let keys = format!("notice_hosts = [\"{notices}\"]\n{}", by.keys());
        Dsp { addr, notices, keys, seen }
    }

    pub fn becomes(&self, manner: Manner) {
        self.seen.lock().expect("no panic").manner = manner;
    }

    /// How often each path was called, in all its life.
    pub fn told(&self) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for path in &self.seen.lock().expect("no panic").told {
            *told.entry(path.clone()).or_default() += 1;
        }
        told
    }

    /// Connections on which it was told: in all, over as they should be, cut off.
    pub fn connections(&self) -> [usize; 3] {
        let seen = self.seen.lock().expect("no panic");
        [seen.connections, seen.ended[0], seen.ended[1]]
    }
}

/// Listens, with TLS or without, and bids with notice URLs that begin with what `notices` makes of its address.
fn listening(
    tls: Option<Arc<ServerConfig>>,
    seen: Arc<Mutex<Seen>>,
    notices: impl FnOnce(SocketAddr) -> String,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("addr");
    let notices: Arc<str> = notices(addr).into();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (seen, notices, tls) = (Arc::clone(&seen), Arc::clone(&notices), tls.clone());
            seen.lock().expect("no panic").connections += 1;
            std::thread::spawn(move || {
                let end = match tls.map(ServerConnection::new) {
                    None => serve(stream, &notices, &seen),
                    Some(Ok(conn)) => serve(StreamOwned::new(conn, stream), &notices, &seen),
                    Some(Err(e)) => Err(std::io::Error::other(e)),
                };
                seen.lock().expect("no panic").ended[usize::from(end.is_err())] += 1;
            });
        }
    });
    addr
}

fn serve(stream: impl Read + Write, notices: &str, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length, mut line) = (String::new(), 0, String::new());
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut device = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.starts_with("X-") && first.starts_with("GET ") {
                device += &format!(" {}", line.trim_end());
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let out = reader.get_mut();
        if let Some(path) = first.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()) {
            let mut seen = seen.lock().expect("no panic");
            seen.told.push(format!("{path}{device}"));
            match seen.manner {
                Manner::Hears if path.starts_with("/markup") => {
                    let length = MARKUP.len();
                    out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{MARKUP}").as_bytes())?;
                }
                Manner::Hears => out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?,
                Manner::Later => out.write_all(b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n")?,
                Manner::Never => out.write_all(b"HTTP/1.1 404 Never\r\nContent-Length: 0\r\n\r\n")?,
                Manner::Hangs => {}
            }
            continue;
        }
        let request: Value = serde_json::from_slice(&body)?;
        let (id, imp) = (&request["id"], &request["imp"][0]["id"]);
        let escaped = notices.replace('/', "\\/");
        let lost = format!(
            r#",{{"id":"c","impid":{imp},"price":1,"adm":"<b>","crid":"c","lurl":"{notices}/lost?i=${{AUCTION_ID}}&l=${{AUCTION_LOSS}}&m=${{AUCTION_MIN_TO_WIN}}"}}"#
        );
        if id.as_str().is_some_and(|id| id.starts_with('m')) {
            out.write_all(&ok(&format!(
                r#"{{"id":{id},"seatbid":[{{"bid":[{{"id":"b","impid":{imp},"price":1.5,"nurl":"{escaped}/markup?i=${{AUCTION_ID}}","crid":"c"}}]}}]}}"#
            )))?;
            continue;
        }
        let lost = if id.as_str().is_some_and(|id| id.starts_with('l')) { lost } else { String::new() };
        out.write_all(&ok(&format!(
            r#"{{"id":{id},"seatbid":[{{"seat":"s","bid":[{{"id":"b","impid":{imp},"price":1.5,"adm":"<b>","crid":"c","nurl":"{notices}/won?i=${{AUCTION_ID}}","burl":"{escaped}/billed?i=${{AUCTION_ID}}&p=${{AUCTION_PRICE}}"}}{lost}]}}]}}"#
        )))?;
    }
}

/// What stands behind a `nurl`.
pub const MARKUP: &str = "<a href=\"/c?i=${AUCTION_ID}\">\u{fc}\n\t\\</a>";

pub const OURS: &str = "http://we.example/notice/";

/// An exchange whose answers carry notice URLs of its own.
pub struct World {
    pub dsp: Dsp,
    dir: Dir,
    config: PathBuf,
}

impl World {
    pub fn new(keys: &str) -> World {
        World::of(Dsp::new(), keys)
    }

    pub fn of(dsp: Dsp, keys: &str) -> World {
        let dir = Dir::new();
        let rest = format!(
            "[cpus]\nbidder_count = {}\n[notices]\nurl = \"http://we.example\"\n{keys}\n[record]\nbox_dir = {:?}\nsegment_bytes = 8388608\nbox_bytes = 16777216\n",
            allowed().len().min(2),
            dir.1
        );
        let config = dir.config("", &[("told", dsp.addr)], &rest);
        // The DSP is the last section.
        let mut file = OpenOptions::new().append(true).open(&config).expect("open");
        file.write_all(dsp.keys.as_bytes()).expect("write");
        World { dsp, dir, config }
    }

    pub fn state(&self) -> String {
        self.dir.0.join("state").to_str().expect("a path").to_owned()
    }

    pub fn start(&self) -> Serving {
        Serving::start(&self.config)
    }
}

/// The win's and the bill's path at our door, of an auction with this id.
pub fn bought(conn: &mut TcpStream, id: &str) -> [String; 2] {
    let answer = bid_for(conn, id);
    ["nurl", "burl"].map(|name| {
        let url = answer["seatbid"][0]["bid"][0][name].as_str().expect("a URL");
        let token = url.strip_prefix(OURS).unwrap_or_else(|| panic!("{name} is ours: {url}"));
        format!("/notice/{token}")
    })
}

pub fn call(conn: &mut TcpStream, path: &str) -> u16 {
    write!(conn, "GET {path} HTTP/1.1\r\nHost: we.example\r\n\r\n").expect("write");
    read_answer(conn).status
}

pub fn labelled(serving: &Serving, name: &str, label: &str) -> u64 {
    let page = serving.get("/metrics").text();
    let value = page.lines().find_map(|l| l.strip_prefix(&format!("{name}{{{label}}} "))?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} {label}"))
}

pub fn notices(serving: &Serving, end: &str) -> u64 {
    labelled(serving, "outcry_notices_total", &format!("end=\"{end}\""))
}
