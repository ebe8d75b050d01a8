//! The exchange as the demo sees it: started in this process, looked at through what control shows.
//! Owns: the running exchange. Runs on: the demo's thread. Called by: `main`, for [`super::demo`].
use super::demo::{DspRow, RunningExchange};
use crate::boot::{self, Exchange};
use std::net::SocketAddr;

/// Starts an exchange for the demo.
pub fn start(config_toml: &str) -> Result<Box<dyn RunningExchange>, String> {
    let exchange = boot::start(config_toml).map_err(|e| e.to_string())?;
    Ok(Box::new(InProcess(exchange)))
}

struct InProcess(Exchange);

impl RunningExchange for InProcess {
    fn listen(&self) -> SocketAddr {
        self.0.listen()
    }

    fn admin(&self) -> SocketAddr {
        self.0.admin()
    }

    fn stop(self: Box<Self>) -> Result<(), String> {
        self.0.stop()
    }

    fn dsp_stats(&self) -> Vec<DspRow> {
        let names = self.0.handle.dsp_names();
        self.0.handle.with_totals(|totals| {
            let row = |(i, name): (usize, &String)| {
                let r = totals.dsp_row(i);
                DspRow {
                    name: name.clone(),
                    asked: r.asked,
                    bids: r.bids,
                    no_bids: r.no_bids,
                    timeouts: r.late,
                    errors: r.errors,
                    wins: r.wins,
                }
            };
            names.iter().enumerate().map(row).collect()
        })
    }

    fn threads(&self) -> String {
        self.0.plan().to_string()
    }
}
