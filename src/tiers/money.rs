//! The tables of what came after a win: notices, and what was settled.
//! Owns: their columns. Called by: [`super::gather`]. Never: adds up; sums are a reader's, and the manifest's for wins.
use super::{
    accounts::Accounts,
    table::{Column, Kind, Rows, Value, always, perhaps},
};
use crate::{
    budget::{
        AccountId,
        event::{Event, What},
    },
    notice::{holds::Lapse, told::Notice},
    units::Money,
};

/// One row for each notice that was acknowledged. Several may be of one `bidid`, `imp` and `notice`: the first in the journal
/// counts.
pub const NOTICES: &[Column] = &[
    always("time", Kind::Time),
    always("bidid", Kind::Text),
    always("imp_place", Kind::Int),
    always("notice", Kind::Text),
    always("expired", Kind::Flag),
    always("said", Kind::Text),
    always("price_micros", Kind::Int),
    always("charge_nanos", Kind::Int),
    always("charge", Kind::Decimal(9)),
    perhaps("held_nanos", Kind::Int),
    perhaps("account", Kind::Int),
    perhaps("account_advertiser", Kind::Text),
    perhaps("account_name", Kind::Text),
    perhaps("window_minute", Kind::Int),
    always("expires", Kind::Time),
    always("segment", Kind::Int),
    always("offset", Kind::Int),
];

/// One row for each lapse, each lease that ended, each dead start that was settled.
pub const SETTLEMENTS: &[Column] = &[
    always("time", Kind::Time),
    always("what", Kind::Text),
    always("node", Kind::Text),
    always("epoch", Kind::Int),
    perhaps("account", Kind::Int),
    perhaps("account_advertiser", Kind::Text),
    perhaps("account_name", Kind::Text),
    perhaps("window_minute", Kind::Int),
    perhaps("expired_minute", Kind::Int),
    perhaps("amount_nanos", Kind::Int),
    perhaps("granted_nanos", Kind::Int),
    perhaps("returned_nanos", Kind::Int),
    perhaps("charged_nanos", Kind::Int),
    perhaps("freed_nanos", Kind::Int),
    perhaps("held_nanos", Kind::Int),
    perhaps("forfeit_nanos", Kind::Int),
    always("segment", Kind::Int),
    always("offset", Kind::Int),
];

/// When a frame was made, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) ms: u64,
    pub(super) segment: u64,
    pub(super) offset: u64,
}

fn money<'a>(amount: Money) -> Value<'a> {
    Value::Int(amount.0)
}

/// Number, advertiser's name, own name.
fn whose<'a>(account: AccountId, advertiser: &'a str, accounts: &'a Accounts) -> [Value<'a>; 3] {
    [
        Value::some_int(account.is_some().then_some(account.0)),
        Value::some_text(advertiser.as_bytes()),
        Value::some_text(accounts.name(account).unwrap_or("").as_bytes()),
    ]
}

/// Adds a notice. Its URL stays in the archive: it is the DSP's, and may hold what only he may know.
pub(super) fn notice(n: &Notice<'_>, at: Placed, accounts: &Accounts, rows: &mut Rows) {
    let (event, advertiser) = (n.name.event.text(), accounts.advertiser(n.account));
    let [account, advertiser, name] = whose(n.account, &advertiser, accounts);
    rows.push(&[
        Value::count(at.ms),
        Value::Text(&event),
        Value::Int(n.name.imp.into()),
        Value::Text(n.name.kind.name().as_bytes()),
        Value::Flag(n.expired),
        Value::Text(n.said.name().as_bytes()),
        Value::Int(n.price.0),
        money(n.charge),
        money(n.charge),
        n.held.map_or(Value::None, money),
        account,
        advertiser,
        name,
        Value::some_int(n.account.is_some().then_some(n.period.0)),
        Value::Int(i64::from(n.expires_s) * 1000),
        Value::count(at.segment),
        Value::count(at.offset),
    ]);
}

/// Adds a lapse, of this node.
pub(super) fn lapse(lapse: &Lapse, node: u32, at: Placed, accounts: &Accounts, rows: &mut Rows) {
    let (node, line) = (format!("{node:08x}"), lapse.of.line);
    let advertiser = accounts.advertiser(line.account);
    let [account, advertiser, name] = whose(line.account, &advertiser, accounts);
    rows.push(&[
        Value::count(at.ms),
        Value::Text(b"lapse"),
        Value::Text(node.as_bytes()),
        Value::Int(lapse.of.epoch.into()),
        account,
        advertiser,
        name,
        Value::Int(line.period.0.into()),
        Value::some_int((lapse.minute > 0).then_some(lapse.minute)),
        money(lapse.amount),
        Value::None,
        Value::None,
        Value::None,
        Value::None,
        Value::None,
        Value::None,
        Value::count(at.segment),
        Value::count(at.offset),
    ]);
}

/// What happened to leases: hands out the rows, each with whom it is about.
pub(super) fn lease(event: &Event, at: Placed, accounts: &Accounts, mut push: impl FnMut(AccountId, &[Value<'_>])) {
    match &event.what {
        What::Settled { holder, settled, .. } => {
            let node = format!("{:08x}", holder.node);
            let row = [
                Value::count(at.ms),
                Value::Text(b"settled"),
                Value::Text(node.as_bytes()),
                Value::Int(holder.epoch.into()),
                Value::None,
                Value::None,
                Value::None,
                Value::None,
                Value::None,
                Value::None,
                Value::None,
                money(settled.returned),
                money(settled.spent),
                Value::None,
                money(settled.held),
                money(settled.forfeit),
                Value::count(at.segment),
                Value::count(at.offset),
            ];
            push(AccountId::NONE, &row);
        }
        What::Ended { holder, lines } => {
            let node = format!("{:08x}", holder.node);
            for ended in lines {
                let of = ended.line.account;
                let (advertiser, what) = (accounts.advertiser(of), format!("lease_{}", ended.how.name()));
                let [account, advertiser, name] = whose(of, &advertiser, accounts);
                let row = [
                    Value::count(at.ms),
                    Value::Text(what.as_bytes()),
                    Value::Text(node.as_bytes()),
                    Value::Int(holder.epoch.into()),
                    account,
                    advertiser,
                    name,
                    Value::Int(ended.line.period.0.into()),
                    Value::None,
                    Value::None,
                    money(ended.granted),
                    money(ended.returned),
                    money(ended.charged),
                    money(ended.freed),
                    Value::None,
                    Value::None,
                    Value::count(at.segment),
                    Value::count(at.offset),
                ];
                push(of, &row);
            }
        }
        // No money moved.
        What::Stopped { .. } => {}
    }
}
