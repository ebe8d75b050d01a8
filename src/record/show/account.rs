//! A change of an account as JSON: in records, and as the admin port tells the history.
//! Owns: nothing. Called by: `show`, the admin port. Never: tells an amount in another currency than the accounting one.
use super::json::Object;
use crate::{
    budget::{
        AccountId, Period,
        movement::{Movement, Terms},
    },
    units::Money,
};

/// Writes a change's members; amounts are units of the accounting currency.
pub fn movement(m: &Movement, o: &mut Object<'_>) {
    o.number("wall_ms", m.wall_ms);
    o.number("id", m.account.0);
    o.word("did", m.deed.name());
    o.word("by", m.by.name());
    o.some_text("who", m.who.as_bytes());
    if let Some(c) = &m.conversion {
        o.object("converted", |o| {
            o.word("from", c.currency);
            // Billionths of a unit, as money is counted.
            o.number("rate", Money(c.rate.0 as i64));
            o.text("table", c.table.as_bytes());
        });
    }
    if let Some(before) = &m.before {
        o.object("before", |o| terms(before, o));
    }
    o.object("after", |o| terms(&m.after, o));
}

/// Writes an account's members, without what it spent.
pub fn terms(t: &Terms, o: &mut Object<'_>) {
    o.text("name", t.name.as_bytes());
    if t.advertiser != AccountId::NONE {
        o.number("advertiser", t.advertiser.0);
        o.text("dsp", t.dsp.as_bytes());
        o.some_text("seat", t.seat.as_bytes());
        o.some_text("cid", t.cid.as_bytes());
    }
    o.number("daily", t.limits.daily);
    o.some_number("hourly", t.limits.hourly);
    o.some_number("lifetime", t.limits.lifetime);
    if let Some((day, more)) = t.extra {
        o.object("extra", |o| {
            o.number("day_ms", day.starts_ms());
            o.number("amount", more);
        });
    }
    o.text("zone", t.zone.as_bytes());
    if t.since != Period(0) {
        o.number("since_ms", t.since.starts_ms());
    }
    o.word("state", t.state.name());
    o.word("pacing", t.pacing.name());
}
