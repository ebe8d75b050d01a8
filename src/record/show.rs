//! A record as a line of JSON, for people and for programs that know no binary: names are OpenRTB's where it has one. An
//! auction also as tables for people: [`report()`].
//! Owns: nothing. Runs on: readers of journals. Called by: `outcry audit`. Never: opens a file; leaves out what a record
//! says; shows an index where there is a name.
//!
//! Prices (`price`, `bidfloor`) are CPM as decimals in the currency beside them; money (`charge`, `reserved`, `amount`) is in units
//! of the accounting currency. Hashes and digests are hexadecimal digits. `..._us` is microseconds since the first byte of
//! the request.
//! `funds` has a character for each answer of the funds, in the order in which they were asked: 1 yes, 0 no money, a no such
//! account, p paused, f no room in the table. An account's `period` is the minute since 1970 at which the window begins that
//! the charge counts to.
//! What a record does not have is not there: `impids` of a DSP only where it was offered less than all. `"cut":["imp.id"]`
//! names texts that were longer than what is kept.
mod account;
mod auction;
pub mod columns;
pub mod json;
mod lease;
mod report;

pub use account::{movement, terms};
pub use report::report;

use super::{
    codec::RecordError,
    configured::{self, Configured},
    frame,
    refusal_sample::{self, RefusalSample},
    refusals,
    started::{self, Started},
    stopped::{self, Clean, Stopped},
};
use crate::{
    auction::{
        Delivery, Record,
        delivery::{self},
        record,
    },
    budget::{
        event::{self, Event},
        movement::{self, Movement},
    },
    notice::{
        holds::{self, Lapse},
        told::{self, Name, Notice, Told},
    },
};
use json::Object;

/// The name of a kind of frames, as in the `type` of its JSON; `None`: not one that can be shown.
pub fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        record::KIND => "auction",
        delivery::KIND => "delivery",
        refusals::KIND => "refusals",
        refusal_sample::KIND => "refusal_sample",
        movement::KIND => "account",
        event::KIND => "lease",
        configured::KIND => "configuration",
        started::KIND => "start",
        stopped::STOPPED => "stop",
        stopped::CLEAN => "clean",
        NOTICE => "notice",
        TOLD => "told",
        SETTLEMENT => "lapse",
        _ => return None,
    })
}

/// Appends the payload of a frame of this kind and version as one JSON object, without a line end.
///
/// # Errors
/// [`RecordError::Version`] of a kind or version that this release does not know; the others of a payload that is
/// damaged. Nothing was appended then.
pub fn show(kind: u8, version: u8, payload: &[u8], out: &mut String) -> Result<(), RecordError> {
    match kind {
        record::KIND => auction::show(&Record::decode(payload)?, payload.first().copied().unwrap_or(version), out),
        delivery::KIND => {
            let known = Delivery::decode(payload)?;
            Object::write(out, |o| {
                o.word("type", "delivery");
                o.word("bidid", known.event);
                let (what, at_ns) = match known.delivery {
                    Delivery::Written { at_ns } => ("written", Some(at_ns)),
                    Delivery::Late { at_ns } => ("late", Some(at_ns)),
                    Delivery::Failed => ("failed", None),
                    Delivery::ClientLeft => ("client_left", None),
                };
                o.word("delivery", what);
                o.some_number("boot_ns", at_ns);
                if !known.freed.is_empty() {
                    o.list("freed", &known.freed, |o, freed| {
                        o.number("account", freed.account);
                        o.number("period", freed.period);
                        o.number("amount", freed.amount);
                    });
                }
            });
        }
        refusals::KIND => {
            let read = refusals::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "refusals");
                o.number("from_ms", read.from_ms);
                o.number("span_ms", read.span_ms);
                o.list("refusals", &read.rows, |o, row| {
                    o.some_text("exchange", row.exchange.as_bytes());
                    o.text("reason", row.reason.as_bytes());
                    o.number("count", row.count);
                });
            });
        }
        refusal_sample::KIND => {
            let s = RefusalSample::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "refusal_sample");
                o.some_text("exchange", s.exchange.as_bytes());
                o.text("reason", s.reason.as_bytes());
                o.number("status", s.status);
                o.some_text("field", s.field.as_bytes());
                o.number("at", s.at);
                o.some_text("path", s.path.as_bytes());
                o.number("head_bytes", s.head_bytes);
                o.number("body_bytes", s.body_bytes);
                o.hash("digest", s.digest);
            });
        }
        movement::KIND => {
            let m = Movement::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "account");
                account::movement(&m, o);
            });
        }
        event::KIND => {
            let e = Event::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "lease");
                lease::event(&e, o);
            });
        }
        configured::KIND => {
            let c = Configured::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "configuration");
                o.number("wall_ms", c.wall_ms);
                o.number("id", c.id);
                o.hash("old", c.old_hash);
                o.hash("new", c.new_hash);
                o.word("by", c.by.name());
            });
        }
        started::KIND => {
            let s = Started::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "start");
                o.number("wall_ms", s.wall_ms);
                o.text("version", s.program.as_bytes());
                o.word("node", format_args!("{:08x}", s.node));
                o.number("epoch", s.epoch);
                o.word("boot_id", format_args!("{:032x}", u128::from_be_bytes(s.boot_id)));
                o.number("cores", s.cores);
                o.hash("configuration", s.config_hash);
                o.text("region", s.region.as_bytes());
            });
        }
        stopped::STOPPED => {
            let s = Stopped::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "stop");
                o.number("wall_ms", s.wall_ms);
                o.word("why", s.why.name());
                o.number("unfinished", s.unfinished);
            });
        }
        stopped::CLEAN => {
            let c = Clean::decode(version, payload)?;
            Object::write(out, |o| {
                o.word("type", "clean");
                o.number("wall_ms", c.wall_ms);
                o.list("writers", &c.last, |o, (writer, seq)| {
                    o.number("writer", writer);
                    o.number("seq", seq);
                });
            });
        }
        NOTICE if version <= told::NOTICE_VERSION => {
            let n = Notice::decode(payload)?;
            Object::write(out, |o| {
                o.word("type", "notice");
                noticed(&n.name, o);
                o.flag("expired", n.expired);
                o.word("said", n.said.name());
                o.number("price", n.price);
                o.number("charge", n.charge);
                o.some_number("held", n.held);
                o.some_number("account", n.account.is_some().then_some(n.account));
                o.some_number("period", n.account.is_some().then_some(n.period));
                o.number("expires_s", n.expires_s);
                o.some_text("buyer", n.buyer);
                o.some_text("url", n.url);
            });
        }
        TOLD if version == told::TOLD_VERSION => {
            let t = Told::decode(payload)?;
            Object::write(out, |o| {
                o.word("type", "told");
                noticed(&t.name, o);
                o.word("end", t.end.name());
                o.some_number("status", t.answered());
                if let Some(why) = t.failed() {
                    o.word("failed", why.name());
                }
                o.number("attempts", t.attempts);
            });
        }
        SETTLEMENT if version == holds::VERSION => {
            let lapse = Lapse::decode(payload)?;
            Object::write(out, |o| {
                o.word("type", "lapse");
                o.number("epoch", lapse.of.epoch);
                o.number("account", lapse.of.line.account);
                o.number("period", lapse.of.line.period);
                o.some_number("expired_minute", (lapse.minute > 0).then_some(lapse.minute));
                o.number("amount", lapse.amount);
            });
        }
        _ => return Err(RecordError::Version),
    }
    Ok(())
}

/// What names a notice.
fn noticed(name: &Name, o: &mut Object<'_>) {
    o.word("bidid", name.event);
    o.number("imp", name.imp);
    o.word("notice", name.kind.name());
}

/// Frames' kinds of notices.
const NOTICE: u8 = frame::Kind::Notice as u8;
const TOLD: u8 = frame::Kind::Told as u8;
/// And of what goes home without one.
const SETTLEMENT: u8 = frame::Kind::Settlement as u8;

#[cfg(test)]
mod tests;
