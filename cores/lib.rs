//! The threads of Outcry and everything that makes a system call.
//!
//! | thread           | owns                                                            | receives from   | sends to        | may block? |
//! |------------------|-----------------------------------------------------------------|-----------------|-----------------|------------|
//! | `outcry-bid-N`   | listener, clients, DSP connections, auctions, counters of a CPU | control         | flush, control  | never      |
//! | `outcry-flush`   | the sums of all cores, the journal                              | bidders, control, raw | control, bidders| on a timer |
//! | `outcry-digest-N`| parts of the digest of the segment being written                | flush           | flush           | yes        |
//! | `outcry-index`   | the index of a segment that has ended                           | flush           | flush           | yes        |
//! | `outcry-journal` | files of the journal that are made, cut off, removed            | flush           | flush           | yes        |
//! | `outcry-raw`     | files of whole requests and answers                             | bidders         | flush           | yes        |
//! | `outcry-ship`    | how far the journal is in Kafka, librdkafka and its threads     | flush           | flush, control  | yes        |
//! | `outcry-leases`  | what this server holds of every budget                          | bidders, ledger | bidders, ledger | on a timer |
//! | `outcry-ledger`  | accounts, budgets, what was granted of them, on disk            | leases, control | leases, control | yes        |
//! | `outcry-names`   | names of DSPs and their addresses, name servers                 | -               | control         | yes        |
//! | `outcry-control` | configuration, admin port, signals, the life of the process     | bidders, flush, names | bidders, flush  | yes        |
//! | `main`           | nothing once it is booted; waits                                | -               | -               | yes        |
//!
//! Reading order: [`boot`] (top to bottom), [`wiring`] (who can talk to whom), [`bidder`] (what a core does),
//! [`flush`], [`control`], [`lab`] (the programs around it).
pub mod audit;
pub mod bidder;
pub mod blackbox;
pub mod boot;
pub mod check;
pub mod control;
pub mod doctor;
pub mod exported;
#[cfg(test)]
mod fixtures;
pub mod flush;
pub mod heap;
pub mod io_probe;
pub mod journal;
pub mod keeping;
pub mod lab;
pub mod money;
pub mod names;
pub mod notice_keys;
pub mod notices;
pub mod out;
mod planted;
pub mod raw;
pub mod rlimit;
pub mod ship;
pub mod state;
#[cfg(feature = "tiers")]
pub mod tiers;
pub mod topology;
pub mod trust;
pub mod wiring;
