//! An honest client: what it sends, and what it reads of what comes back.
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Nothing a test waits for takes longer; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request around a body; `headers` are lines of their own.
pub fn post(body: &str, headers: &str) -> String {
    format!(
        "POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of a request for one banner, with time for anything.
pub fn request(id: &str) -> String {
    format!(r#"{{"id":"{id}","tmax":10000,"imp":[{{"id":"1","banner":{{"w":300,"h":250}}}}],"site":{{}}}}"#)
}

/// Asks and gets a bid for this id: the answer.
pub fn bid_for(conn: &mut TcpStream, id: &str) -> Value {
    conn.write_all(post(&request(id), "").as_bytes()).expect("write");
    let answer = read_answer(conn);
    assert_eq!(answer.status, 200, "{id}: {answer:?}");
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer["id"], id);
    answer
}

/// The markup of its first bid.
pub fn markup(answer: &Value) -> &str {
    answer["seatbid"][0]["bid"][0]["adm"].as_str().unwrap_or_else(|| panic!("markup in {answer}"))
}

/// A connection that fails the test rather than hang it.
pub fn connect(addr: SocketAddr) -> TcpStream {
    let conn = TcpStream::connect(addr).expect("connect");
    conn.set_read_timeout(Some(PATIENCE)).expect("timeout");
    conn.set_nodelay(true).expect("nodelay");
    conn
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Name in lower case, value.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads one answer and not a byte more.
pub fn read_answer(conn: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        conn.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&head)));
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).expect("a head of text");
    let mut lines = text.lines();
    let status = lines.next().and_then(|l| l.get(9..12)).and_then(|s| s.parse().ok()).expect("a status");
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_string())).collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    conn.read_exact(&mut body).expect("a whole body");
    Answer { status, headers, body }
}

/// Reads several.
pub fn read_answers(conn: &mut TcpStream, n: usize) -> Vec<Answer> {
    (0..n).map(|_| read_answer(conn)).collect()
}
