//! From the admin port to the ledger's thread and back.
//! Owns: a queue of calls. Runs on: control asks, the ledger's thread answers. Called by: the admin port.
//! Full: 503, and nothing was done.
use super::api::{self, Answer, Call, Manager};
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// Calls that wait: as many as the admin port has connections.
const SLOTS: usize = outcry::limits::ADMIN_CONNECTIONS;
/// A call that is not answered after this is given up by who asked; it may be done all the same.
const PATIENCE: Duration = Duration::from_secs(10);

type Waiting = (Call, oneshot::Sender<Answer>);

/// The end that asks.
#[derive(Clone, Debug)]
pub struct BudgetPort(SyncSender<Waiting>);

/// The end that answers.
#[derive(Debug)]
pub struct Calls(Receiver<Waiting>);

/// Both ends.
pub fn port() -> (BudgetPort, Calls) {
    let (ask, calls) = sync_channel(SLOTS);
    (BudgetPort(ask), Calls(calls))
}

impl BudgetPort {
    /// Asks the ledger's thread.
    pub async fn ask(&self, call: Call) -> Answer {
        let table = call.target.contains("format=table");
        let (reply, answer) = oneshot::channel();
        if self.0.try_send((call, reply)).is_err() {
            return Answer::error(503, table, "the ledger is busy or gone; nothing was done");
        }
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Answer::error(503, table, "the ledger did not answer; look at the history before you try again"),
        }
    }
}

impl Calls {
    /// Answers what waits; waits for the first so long. False: nobody can ask any more.
    pub fn serve(&self, manager: &mut dyn Manager, wait: Duration) -> bool {
        let mut next = self.0.recv_timeout(wait);
        loop {
            match next {
                Ok((call, reply)) => drop(reply.send(api::answer(&call, manager))),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            next = self.0.try_recv().map_err(|e| match e {
                std::sync::mpsc::TryRecvError::Empty => RecvTimeoutError::Timeout,
                std::sync::mpsc::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
    }
}
