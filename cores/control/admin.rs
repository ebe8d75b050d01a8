//! The admin port: /metrics, /healthz, /readyz, /version, /budget for `budgets`, /notices for `notices`. HTTP/1.1, one request per connection.
//! Owns: its connections. Runs on: control, one task each. Called by: `control`; asked by scrapers, probes, people.
//! Never: in the way of a bidder core. Full: connections beyond [`ADMIN_CONNECTIONS`] wait in the listener's queue,
//! and as each is over within seconds, they do not wait long.
mod budgets;
mod changes;
mod notices;

use super::handle::ControlHandle;
use outcry::{
    limits::{ADMIN_CONNECTIONS, ADMIN_HEAD_BYTES},
    record::exposition,
};
use std::{fmt::Write, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

/// A head that is not whole after this is answered 408; an answer not taken within it is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// After the answer, how long what the client still sends is read and thrown away: closing with unread bytes would
/// reset the connection and take the answer with it.
const LINGER: Duration = Duration::from_millis(250);
/// After a failing accept (no file descriptors), rather than in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until its task is dropped.
pub async fn serve(listener: TcpListener, handle: Arc<ControlHandle>) {
    let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handle = Arc::clone(&handle);
                tokio::spawn(async move {
                    let _ = connection(stream, &handle).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(mut stream: TcpStream, handle: &ControlHandle) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let whole = timeout(PATIENCE, read_head(&mut stream, &mut head)).await;
    let answer = match whole {
        Err(_) => Answer::text(408, "the request did not come in time\n"),
        Ok(Err(e)) => return Err(e),
        Ok(Ok(Head::Gone)) => return Ok(()),
        Ok(Ok(Head::TooLong)) => Answer::text(431, "the head of the request is too long\n"),
        Ok(Ok(Head::Whole)) if is_below(&head, b"/notices/") => notices::answer(&mut stream, &head, handle).await,
        Ok(Ok(Head::Whole)) if is_below(&head, b"/budget/") => {
            budgets::answer(&mut stream, &head, handle.budgets()).await
        }
        Ok(Ok(Head::Whole)) => answer(&head, handle),
    };
    timeout(PATIENCE, stream.write_all(answer.bytes().as_bytes())).await??;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    let _ = timeout(LINGER, async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} }).await;
    Ok(())
}

enum Head {
    Whole,
    TooLong,
    /// The client closed before its head was whole.
    Gone,
}

async fn read_head(stream: &mut TcpStream, head: &mut Vec<u8>) -> std::io::Result<Head> {
    let mut part = [0; 1024];
    loop {
        let n = stream.read(&mut part).await?;
        if n == 0 {
            return Ok(Head::Gone);
        }
        // The end may lie across two reads.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&part[..n]);
        if memchr::memmem::find(&head[from..], b"\r\n\r\n").is_some() {
            return Ok(Head::Whole);
        }
        if head.len() > ADMIN_HEAD_BYTES {
            return Ok(Head::TooLong);
        }
    }
}

struct Answer {
    status: u16,
    content_type: &'static str,
    /// Of a HEAD: what a GET would have said, only its length is told.
    body: String,
    head_only: bool,
}

impl Answer {
    fn text(status: u16, body: &str) -> Answer {
        Answer { status, content_type: "text/plain; charset=utf-8", body: body.to_owned(), head_only: false }
    }

    fn bytes(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            411 => "Length Required",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            422 => "Unprocessable Content",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let mut out = String::with_capacity(256 + self.body.len());
        let (status, kind, length) = (self.status, self.content_type, self.body.len());
        let _ = write!(out, "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n");
        if status == 405 {
            out.push_str("allow: GET, HEAD\r\n");
        }
        out.push_str("cache-control: no-store\r\nconnection: close\r\n\r\n");
        if !self.head_only {
            out.push_str(&self.body);
        }
        out
    }
}

fn is_below(head: &[u8], path: &[u8]) -> bool {
    head.split(|b| *b == b' ').nth(1).is_some_and(|target| target.starts_with(path))
}

fn answer(head: &[u8], handle: &ControlHandle) -> Answer {
    let line = head.split(|b| *b == b'\r').next().unwrap_or(&[]);
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Answer::text(400, "not an HTTP request\n");
    };
    if !version.starts_with(b"HTTP/1.") {
        return Answer::text(400, "only HTTP/1 is spoken here\n");
    }
    let path = target.split(|b| *b == b'?').next().unwrap_or(&[]);
    let page: fn(&ControlHandle) -> Answer = match path {
        b"/metrics" => metrics,
        b"/healthz" => healthz,
        b"/readyz" => readyz,
        b"/version" => version_page,
        _ => return Answer::text(404, "pages: /metrics /healthz /readyz /version /budget/accounts\n"),
    };
    match method {
        b"GET" => page(handle),
        b"HEAD" => Answer { head_only: true, ..page(handle) },
        _ => Answer::text(405, "GET or HEAD\n"),
    }
}

fn metrics(handle: &ControlHandle) -> Answer {
    let mut body = String::with_capacity(32 * 1024);
    handle.render(&mut body);
    Answer { status: 200, content_type: exposition::CONTENT_TYPE, body, head_only: false }
}

fn healthz(handle: &ControlHandle) -> Answer {
    if handle.healthy() { Answer::text(200, "ok\n") } else { Answer::text(503, "a core is lost or stands still\n") }
}

/// Exchanges probe for the character `1` in the body and take anything without it for "not ready".
fn readyz(handle: &ControlHandle) -> Answer {
    if handle.ready() { Answer::text(200, "1\n") } else { Answer::text(503, "not ready\n") }
}

fn version_page(_: &ControlHandle) -> Answer {
    let body = concat!("{\"name\":\"outcry\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}\n").to_owned();
    Answer { status: 200, content_type: "application/json", body, head_only: false }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::control::handle::State;

    /// Sends `request`, shuts nothing, and returns all that comes back.
    pub(crate) fn ask(handle: &Arc<ControlHandle>, request: &[u8]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(serve(listener, Arc::clone(handle)));
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(request).await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        })
    }

    fn get(handle: &Arc<ControlHandle>, path: &str) -> (u16, String) {
        let text = ask(handle, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    #[test]
    fn only_the_ready_body_holds_a_1() {
        let handle = ControlHandle::new(1, 1);
        for state in [State::Starting, State::Ready, State::Draining, State::Failed, State::Stopped] {
            handle.set_state(state);
            let (status, body) = get(&handle, "/readyz");
            assert_eq!(body.contains('1'), state == State::Ready, "{state:?}: {body}");
            assert_eq!(status, if state == State::Ready { 200 } else { 503 }, "{state:?}");
        }
        handle.set_state(State::Ready);
        handle.set_alive(false);
        let (status, body) = get(&handle, "/readyz");
        assert!(status == 503 && !body.contains('1'), "{body}");
    }

    #[test]
    fn each_page_answers() {
        let handle = ControlHandle::new(1, 1);
        assert_eq!(get(&handle, "/healthz"), (200, "ok\n".into()));
        handle.set_state(State::Failed);
        assert_eq!(get(&handle, "/healthz").0, 503);
        let (status, body) = get(&handle, "/metrics?x=y");
        assert!(status == 200 && body.contains("\noutcry_auctions_total 0\n"), "{body}");
        let (status, body) = get(&handle, "/version");
        assert!(status == 200 && body.contains(env!("CARGO_PKG_VERSION")), "{body}");
    }

    #[test]
    fn what_is_not_a_page_is_refused_in_words() {
        let handle = ControlHandle::new(1, 1);
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(2 * ADMIN_HEAD_BYTES));
        let rows: &[(&str, &str)] = &[
            ("GET /nowhere HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
            ("POST /metrics HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", "HTTP/1.1 405 "),
            ("GET\r\n\r\n", "HTTP/1.1 400 "),
            ("\r\n\r\n", "HTTP/1.1 400 "),
            ("GET / HTTP/2\r\n\r\n", "HTTP/1.1 400 "),
            (&long, "HTTP/1.1 431 "),
        ];
        for (request, want) in rows {
            let got = ask(&handle, request.as_bytes());
            assert!(got.starts_with(want), "{request:.30}: {got}");
            assert_eq!(want.contains("405"), got.contains("\r\nallow: GET, HEAD\r\n"), "{got}");
        }
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let got = ask(&ControlHandle::new(1, 1), b"HEAD /healthz HTTP/1.1\r\n\r\n");
        assert!(got.contains("content-length: 3\r\n") && got.ends_with("\r\n\r\n"), "{got}");
    }
}
