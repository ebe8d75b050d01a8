//! The part of the admin port that passes calls to the ledger.
//! Owns: nothing. Runs on: control. Called by: `admin`.
use super::{Answer, changes};
use crate::money::{api, port::BudgetPort};
use tokio::net::TcpStream;

/// Answers a request for budgets; `received` is its head and what came with it.
pub(super) async fn answer(stream: &mut TcpStream, received: &[u8], budgets: Option<&BudgetPort>) -> Answer {
    let Some(budgets) = budgets else { return Answer::text(404, "no budgets are kept here\n") };
    let call = match changes::read(stream, received).await {
        Ok(call) => call,
        Err(refused) => return refused,
    };
    let api::Answer { status, json, body } = budgets.ask(call).await;
    let content_type = if json { "application/json" } else { "text/plain; charset=utf-8" };
    Answer { status, content_type, body, head_only: false }
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
