//! From the admin port to the ledger's thread and back.
//! Owns: nothing. Runs on: control asks, the ledger's thread answers. Called by: the admin port, which has a bounded number of
//! connections, each with one call.
use super::{
    api::{Answer, Call},
    ledger::ToLedger,
};
use std::{sync::mpsc::Sender, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// A call that is not answered after this is given up by who asked; it may be done all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// The end that asks.
#[derive(Clone, Debug)]
pub struct BudgetPort(pub Sender<ToLedger>);

impl BudgetPort {
    /// Asks the ledger's thread.
    pub async fn ask(&self, call: Call) -> Answer {
        let table = call.target.contains("format=table");
        let (reply, answer) = oneshot::channel();
        if self.0.send(ToLedger::Call(call, reply)).is_err() {
            return Answer::error(503, table, "the ledger is gone; nothing was done");
        }
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Answer::error(503, table, "the ledger did not answer; look at the history before you try again"),
        }
    }
}
