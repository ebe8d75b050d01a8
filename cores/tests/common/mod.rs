//! A real exchange in this process, with a real DSP behind it, for tests over sockets.
#![allow(dead_code, unreachable_pub)] // each test file uses its part
mod client;
pub mod tls;

pub use client::*;
use outcry::{openrtb::codes::Outcome, record::totals::Totals};
use outcry_cores::{
    boot::{self, Exchange},
    control::ControlHandle,
};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

/// Keys of [record] for a test: a start makes and fills these files.
pub const SMALL: &str = "box_bytes = 16777216\nsegment_bytes = 8388608\n";

/// What a DSP of a test does with one request's JSON: the whole HTTP answer.
pub type Dsp = fn(&serde_json::Value) -> Vec<u8>;

/// A DSP on threads of its own; lives as long as the process.
pub fn dsp(answer: Dsp) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("addr");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            std::thread::spawn(move || serve(stream, answer));
        }
    });
    addr
}

/// Answers every request of a connection.
pub fn serve(stream: impl Read + Write, answer: Dsp) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(v) = lower.strip_prefix("content-length:") {
                length = v.trim().parse().map_err(io::Error::other)?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request = serde_json::from_slice(&body).map_err(io::Error::other)?;
        reader.get_mut().write_all(&answer(&request))?;
        reader.get_mut().flush()?;
    }
}

/// A 200 around a body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// Bids 1.50 for every impression, with more than a kilobyte of markup.
pub fn bidder(request: &serde_json::Value) -> Vec<u8> {
    let bids: Vec<String> = request["imp"]
        .as_array()
        .map(|imps| {
            imps.iter()
                .map(|imp| {
                    let impid = imp["id"].as_str().unwrap_or("");
                    let adm = format!("<a href='https://x.example'>{}</a>", "ad ".repeat(400));
                    format!(
                        r#"{{"id":"b","impid":"{impid}","price":1.50,"adm":"{adm}","adomain":["x.example"],"crid":"c","cid":"k","w":300,"h":250}}"#
                    )
                })
                .collect()
        })
        .unwrap_or_default();
    let id = request["id"].as_str().unwrap_or("");
    ok(&format!(r#"{{"id":"{id}","seatbid":[{{"seat":"s","bid":[{}]}}]}}"#, bids.join(",")))
}

/// A running exchange.
pub struct Server {
    exchange: Option<Exchange>,
    addr: SocketAddr,
    admin: SocketAddr,
    dir: PathBuf,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Server {
    /// With one DSP that bids on everything; `more` is TOML, sections of its own.
    pub fn start(more: &str) -> Server {
        Server::start_with(&[bidder], more)
    }

    /// With nobody to ask.
    pub fn start_without_dsps() -> Server {
        Server::start_with(&[], "")
    }

    /// With these DSPs.
    pub fn start_with(dsps: &[Dsp], more: &str) -> Server {
        let addrs: Vec<SocketAddr> = dsps.iter().map(|d| dsp(*d)).collect();
        Server::start_at(&addrs, more)
    }

    /// With DSPs that listen there.
    pub fn start_at(dsps: &[SocketAddr], more: &str) -> Server {
        let dsps: Vec<(SocketAddr, &str)> = dsps.iter().map(|addr| (*addr, "warm = 2")).collect();
        Server::start_as(&dsps, more)
    }

    /// With DSPs that listen there, each with keys of its own, lines of TOML.
    pub fn start_as(dsps: &[(SocketAddr, &str)], more: &str) -> Server {
        Server::start_as_on(1, dsps, more)
    }

    /// The same on so many cores.
    pub fn start_as_on(cores: usize, dsps: &[(SocketAddr, &str)], more: &str) -> Server {
        let dsps: Vec<_> = dsps.iter().map(|(addr, keys)| (format!("http://{addr}/bid"), *keys)).collect();
        Server::start_urls_on(cores, &dsps, more)
    }

    /// The same on one, by URLs.
    pub fn start_urls(dsps: &[(String, &str)], more: &str) -> Server {
        Server::start_urls_on(1, dsps, more)
    }

    fn start_urls_on(cores: usize, dsps: &[(String, &str)], more: &str) -> Server {
        let dir = std::env::temp_dir().join(format!(
            "outcry-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let (top, sections) = more.split_at(more.find('[').unwrap_or(0));
        let mut text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n{top}[cpus]\nbidder_count = {cores}\n{sections}",
            dir.display()
        );
        if !more.contains("[record]") {
            text += &format!("\n[record]\n{SMALL}");
        }
        for (i, (url, keys)) in dsps.iter().enumerate() {
            text += &format!("\n[[dsp]]\nname = \"dsp-{i}\"\nurl = \"{url}\"\n{keys}\n");
        }
        let exchange = boot::start(&text).unwrap_or_else(|e| panic!("{e}"));
        let (addr, admin) = (exchange.listen(), exchange.admin());
        Server { exchange: Some(exchange), addr, admin, dir }
    }

    /// Where requests go.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where metrics are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What control shows.
    pub fn handle(&self) -> &Arc<ControlHandle> {
        &self.exchange.as_ref().expect("running").handle
    }

    /// Stops it, in order, and says what it counted in all. Totals come once a second; those of the end are whole.
    pub fn totals(mut self) -> Totals {
        let handle = Arc::clone(self.handle());
        self.exchange.take().expect("running").stop().expect("stopped in order");
        handle.totals()
    }

    /// A client's connection.
    pub fn connect(&self) -> TcpStream {
        connect(self.addr)
    }

    /// One GET of the admin port: status line and body.
    pub fn get(&self, path: &str) -> Answer {
        let mut conn = connect(self.admin);
        conn.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .expect("write");
        read_answer(&mut conn)
    }

    /// Stops it, while the test goes on talking to it.
    pub fn stop_in_background(mut self) -> JoinHandle<Result<(), String>> {
        let exchange = self.exchange.take().expect("running");
        std::thread::spawn(move || {
            let _server = self;
            exchange.stop()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            let _ = exchange.stop();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The outcomes that the DSP in this row had, and how often.
pub fn outcomes(totals: &Totals, row: usize) -> Vec<(Outcome, u64)> {
    Outcome::ALL.iter().map(|o| (*o, totals.dsp_outcome(row, *o))).filter(|(_, n)| *n > 0).collect()
}
