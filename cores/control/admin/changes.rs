//! A request of the admin port that may change something, read whole: its body, and whether it may.
//! Owns: nothing. Runs on: control. Called by: `budgets`, `notices`. Never: lets a change through that a web page could have sent,
//! or that comes from another machine: the port knows no passwords.
//!
//! Reading is as open as the metrics are. A change has to come from this machine (a loopback address), as
//! `content-type: application/json` and without an `origin`, which no page of another site can send without being asked first.
use super::{Answer, PATIENCE};
use crate::money::api::Call;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// Longest body: an operation has some hundred bytes, a notice two thousand.
const BODY_BYTES: usize = 16 * 1024;

/// The request of which `received` is the head and what came with it; or how it is refused.
pub(super) async fn read(stream: &mut TcpStream, received: &[u8]) -> Result<Call, Answer> {
    let end = memchr::memmem::find(received, b"\r\n\r\n").unwrap_or(received.len());
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut words = head.split([' ', '\r']);
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
    let mut call = Call { post: method == "POST", target, body: Vec::new() };
    if call.post {
        let local = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        let length = may_change(&head, local)?;
        call.body.extend_from_slice(received.get(end + 4..).unwrap_or(&[]));
        let rest = length.saturating_sub(call.body.len());
        call.body.truncate(length);
        let mut more = vec![0; rest];
        match timeout(PATIENCE, stream.read_exact(&mut more)).await {
            Ok(Ok(_)) => call.body.append(&mut more),
            _ => return Err(Answer::text(408, "the body of the request did not come in time\n")),
        }
    } else if method != "GET" {
        return Err(Answer::text(405, "GET or POST\n"));
    }
    Ok(call)
}

/// The length of the body, if a request with this head may change anything.
fn may_change(head: &str, local: bool) -> Result<usize, Answer> {
    let header = |name: &str| {
        let named =
            |line: &str| line.split_once(':').filter(|h| h.0.eq_ignore_ascii_case(name)).map(|h| h.1.trim().to_owned());
        head.lines().skip(1).find_map(named)
    };
    if !local {
        return Err(Answer::text(
            403,
            "changes are made from the machine itself: log in there and use outcry budget or outcry notices\n",
        ));
    }
    if header("origin").is_some() {
        return Err(Answer::text(403, "nothing is changed by web pages\n"));
    }
    let json = header("content-type")
        .is_some_and(|t| t.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("application/json")));
    if !json {
        return Err(Answer::text(415, "content-type: application/json\n"));
    }
    match header("content-length").and_then(|n| n.parse::<usize>().ok()) {
        None => Err(Answer::text(411, "a content-length is needed\n")),
        Some(n) if n > BODY_BYTES => Err(Answer::text(413, "the body of the request is too long\n")),
        Some(n) => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whoever_is_here_and_no_web_page_changes_anything() {
        let head = |more: &str| format!("POST /budget/operations HTTP/1.1\r\n{more}");
        for (more, local, want) in [
            ("content-length: 7\r\nContent-Type: application/json; charset=utf-8", true, Ok(7)),
            ("content-length: 7\r\ncontent-type: application/json", false, Err(403)),
            ("content-length: 7\r\ncontent-type: application/json\r\nOrigin: http://x.example", true, Err(403)),
            ("content-length: 7\r\ncontent-type: text/plain", true, Err(415)),
            ("content-length: 7", true, Err(415)),
            ("content-type: application/json", true, Err(411)),
            ("content-length: x\r\ncontent-type: application/json", true, Err(411)),
            ("content-length: 16385\r\ncontent-type: application/json", true, Err(413)),
        ] {
            assert_eq!(may_change(&head(more), local).map_err(|a| a.status), want, "{more} {local}");
        }
    }
}
