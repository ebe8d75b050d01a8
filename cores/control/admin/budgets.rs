//! The part of the admin port that passes calls to the ledger: their bodies, and who may change anything.
//! Owns: nothing. Runs on: control. Called by: `admin`. Never: lets a change through that a web page could have sent, or that comes
//! from another machine: the port knows no passwords.
//!
//! Reading is as open as the metrics are. A change has to come from this machine (a loopback address), as
//! `content-type: application/json` and without an `origin`, which no page of another site can send without being asked first.
use super::{Answer, PATIENCE};
use crate::money::{api, port::BudgetPort};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// Longest body: an operation has some hundred bytes.
const BODY_BYTES: usize = 16 * 1024;

/// Answers a request for budgets; `received` is its head and what came with it.
pub(super) async fn answer(stream: &mut TcpStream, received: &[u8], budgets: Option<&BudgetPort>) -> Answer {
    let Some(budgets) = budgets else { return Answer::text(404, "no budgets are kept here\n") };
    let end = memchr::memmem::find(received, b"\r\n\r\n").unwrap_or(received.len());
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut words = head.split([' ', '\r']);
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
    let mut call = api::Call { post: method == "POST", target, body: Vec::new() };
    if call.post {
        let local = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
        let length = match may_change(&head, local) {
            Ok(length) => length,
            Err(refused) => return refused,
        };
        call.body.extend_from_slice(received.get(end + 4..).unwrap_or(&[]));
        let rest = length.saturating_sub(call.body.len());
        call.body.truncate(length);
        let mut more = vec![0; rest];
        match timeout(PATIENCE, stream.read_exact(&mut more)).await {
            Ok(Ok(_)) => call.body.append(&mut more),
            _ => return Answer::text(408, "the body of the request did not come in time\n"),
        }
    } else if method != "GET" {
        return Answer::text(405, "GET or POST\n");
    }
    let api::Answer { status, json, body } = budgets.ask(call).await;
    let content_type = if json { "application/json" } else { "text/plain; charset=utf-8" };
    Answer { status, content_type, body, head_only: false }
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
            "budgets are changed from the machine itself: log in there and use outcry budget\n",
        ));
    }
    if header("origin").is_some() {
        return Err(Answer::text(403, "budgets are not changed by web pages\n"));
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
    use crate::{
        control::{ControlHandle, admin::tests::ask},
        money::{
            Accounts,
            api::tests::books,
            ledger::{Desk, run},
            telling::tests::telling,
        },
    };
    use outcry::budget::event::Level;
    use std::sync::{Arc, mpsc::channel};

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

    fn post(body: &str) -> String {
        format!(
            "POST /budget/operations HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Over a socket, to a ledger on a thread of its own, and back.
    #[test]
    fn the_ledger_is_asked_over_the_admin_port() {
        let handle = ControlHandle::new(1, 1);
        assert!(ask(&handle, b"GET /budget/accounts HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        let (to_ledger, asked) = channel();
        handle.keep_budgets(BudgetPort(to_ledger));
        let ledger = std::thread::spawn(move || {
            let (ledger, _folder) = books("socket");
            let accounts = Arc::new(Accounts::of(&ledger, 0));
            let (telling, ..) = telling(Level::Granter);
            run(Desk { ledger, asked, leases: channel().0, accounts, telling });
        });
        let added = ask(&handle, post(r#"{"account":"acme","do":"add_advertiser","daily":100}"#).as_bytes());
        assert!(added.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"), "{added}");
        assert!(added.contains(r#""changed":true,"change":{"wall_ms":"#), "{added}");
        let refused = ask(&handle, post(r#"{"account":"acme","do":"set","daily":-1}"#).as_bytes());
        assert!(
            refused.starts_with("HTTP/1.1 400 Bad Request\r\n") && refused.contains("\"daily\\\" is not an amount"),
            "{refused}"
        );
        let list = ask(&handle, b"GET /budget/accounts?format=table HTTP/1.1\r\n\r\n");
        assert!(list.contains("text/plain") && list.contains("\n  acme     active    100"), "{list}");
        let cut = ask(&handle, b"PUT /budget/accounts HTTP/1.1\r\n\r\n");
        assert!(cut.starts_with("HTTP/1.1 405 "), "{cut}");
        // The last port that asks is gone with the handle.
        assert_eq!(Arc::strong_count(&handle), 1);
        drop(handle);
        ledger.join().expect("the ledger ends when nobody can ask any more");
    }
}
