//! Sends a shape and says what came back: how many answers, which, and what became of the connection.
//! Owns: one connection at a time. Called by: the command line, the tests of attacks.
use super::{
    super::http::{self, Kind, Step},
    shapes::Shape,
};
use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// What takes longer does not come: above every time within which an exchange answers or closes by itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Behind a shape whose connection should go on; answered 404, and then it closes.
const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
/// All answers to one shape together.
const ANSWERS_BYTES: usize = 64 * 1024;

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Statuses of the answers to the shape, interim ones not counted.
    pub statuses: Vec<u16>,
    /// The connection ended by itself, before anything else was sent.
    pub closed: bool,
    /// The request that was sent behind the shape got its own answer, and that was the last.
    pub went_on: bool,
    /// Bytes that were no answer.
    pub stray: usize,
}

impl Seen {
    /// Is this what the shape must get?
    pub fn is(&self, shape: &Shape) -> bool {
        let end = if shape.closes { self.closed } else { !self.closed && self.went_on };
        self.statuses == shape.statuses && end && self.stray == 0
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> = self.statuses.iter().map(u16::to_string).collect();
        let end = match (self.closed, self.went_on) {
            (true, _) => "closed",
            (false, true) => "goes on",
            (false, false) => "neither closed nor going on",
        };
        write!(f, "{}, {end}", if statuses.is_empty() { "no answer".to_owned() } else { statuses.join(" ") })?;
        if self.stray > 0 { write!(f, ", {} bytes that are no answer", self.stray) } else { Ok(()) }
    }
}

/// Sends a shape on a connection of its own.
///
/// # Errors
/// When the connection cannot be made, or nothing at all happens for a long time.
pub fn send(target: SocketAddr, shape: &Shape) -> io::Result<Seen> {
    let mut conn = TcpStream::connect(target)?;
    conn.set_read_timeout(Some(PATIENCE))?;
    conn.set_write_timeout(Some(PATIENCE))?;
    conn.set_nodelay(true)?;
    // Whoever refuses at the first byte may have closed before the last was sent; its answer is there all the same.
    let _ = conn.write_all(&shape.bytes);
    let mut reader = Answers { conn, bytes: Vec::new(), ended: false };
    let mut statuses = Vec::new();
    while statuses.len() < shape.statuses.len() {
        let Some(status) = reader.next()? else { break };
        statuses.push(status);
    }
    if shape.closes || statuses.len() < shape.statuses.len() {
        while let Some(status) = reader.next()? {
            statuses.push(status);
        }
        return Ok(Seen { statuses, closed: reader.ended, went_on: false, stray: reader.bytes.len() });
    }
    let sent = reader.conn.write_all(SENTINEL).is_ok();
    let own = reader.next()?;
    let mut went_on = sent && own == Some(404);
    while let Some(status) = reader.next()? {
        statuses.push(status);
        went_on = false;
    }
    let _ = reader.conn.shutdown(Shutdown::Both);
    Ok(Seen { statuses, closed: own.is_none(), went_on, stray: reader.bytes.len() })
}

/// Answers one after the other.
struct Answers {
    conn: TcpStream,
    bytes: Vec<u8>,
    ended: bool,
}

impl Answers {
    /// The next final answer's status; `None`: the connection ended first, or what came is no answer.
    fn next(&mut self) -> io::Result<Option<u16>> {
        loop {
            match http::frame(&mut self.bytes, Kind::Response, ANSWERS_BYTES) {
                Ok(Step::Whole(frame)) => {
                    self.bytes.drain(..frame.end);
                    if frame.status >= 200 {
                        return Ok(Some(frame.status));
                    }
                }
                Err(_) => return Ok(None),
                Ok(Step::More { .. }) => {
                    let mut part = [0; 4096];
                    match self.conn.read(&mut part) {
                        Ok(0) => self.ended = true,
                        // Bytes of ours were not read: the answer came before.
                        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => self.ended = true,
                        Err(e) => return Err(e),
                        Ok(n) => self.bytes.extend_from_slice(&part[..n]),
                    }
                    if self.ended {
                        return Ok(None);
                    }
                }
            }
        }
    }
}
