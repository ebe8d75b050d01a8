//! What happened to leases as JSON.
//! Owns: nothing. Called by: `show`. Never: tells an amount in another currency than the accounting one.
use super::json::Object;
use crate::budget::{
    event::{Event, What},
    granter::HolderId,
};

/// Writes an event's members; amounts are units of the accounting currency.
pub(super) fn event(event: &Event, o: &mut Object<'_>) {
    o.number("wall_ms", event.wall_ms);
    match &event.what {
        What::Settled { holder: of, complete, settled } => {
            o.word("did", "settled");
            holder(*of, o);
            o.number("complete", *complete);
            o.number("lines", settled.lines);
            o.number("returned", settled.returned);
            o.number("spent", settled.spent);
            o.number("held", settled.held);
            o.number("forfeit", settled.forfeit);
        }
        What::Ended { holder: of, lines } => {
            o.word("did", "ended");
            holder(*of, o);
            o.list("lines", lines, |o, ended| {
                o.number("account", ended.line.account);
                o.number("period", ended.line.period);
                o.word("how", ended.how.name());
                o.number("granted", ended.granted);
                o.number("returned", ended.returned);
                o.number("charged", ended.charged);
                o.number("freed", ended.freed);
            });
        }
        What::Stopped { account, level, invariant } => {
            o.word("did", "stopped");
            o.number("account", account);
            o.word("level", level.name());
            o.text("invariant", invariant.as_bytes());
        }
    }
}

fn holder(holder: HolderId, o: &mut Object<'_>) {
    o.word("node", format_args!("{:08x}", holder.node));
    o.number("epoch", holder.epoch);
}
