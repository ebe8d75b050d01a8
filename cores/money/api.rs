//! Budgets over the admin port: requests in, answers out, nothing between.
//! Owns: the paths and what their answers look like. Runs on: the ledger's thread. Called by: whoever drives the ledger, for each
//! call that came through [`super::port`]. Never: touches a socket; answers that something was done before it is durable.
//!
//! | request | answer |
//! |---|---|
//! | `GET /budget/accounts?from=ID&most=N` | accounts in the order of their numbers |
//! | `GET /budget/accounts/NAME` | one |
//! | `GET /budget/accounts/NAME/history?most=N` | its changes, the latest first |
//! | `GET /budget/days/2026-01-31?from=ID&most=N` | what is known of a day's windows ([`super::day`]) |
//! | `POST /budget/operations` | does what the body says ([`outcry::budget::request`]) |
//!
//! All are JSON, or with `format=table` tables for people; but a day is lines of text, for `outcry audit reconcile`.
use super::day::Page;
use outcry::{
    budget::{
        AccountId,
        granter::Standing,
        manage::{Operation, Refused, name_of},
        movement::{Movement, Terms},
        request,
        tree::{Account, Tree},
        window::{BucketKey, Span},
    },
    config::suggest,
    record::{
        show::{
            self,
            columns::{Columns, plain},
            json::Object,
        },
        when,
    },
    units::Money,
};

/// Accounts or changes in one answer, unless less is asked for.
const MOST: usize = 1_000;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store failed: nobody knows whether it was done.
    #[error("{0}. Look at the history before you try again: it may have been done")]
    Store(String),
}

/// What is asked of the ledger.
pub trait Manager {
    /// All accounts.
    fn tree(&self) -> &Tree;
    /// Does it; `None`: it was so already. When it returns it is durable.
    ///
    /// # Errors
    /// [`Failed`]
    fn apply(&mut self, operation: &Operation) -> Result<Option<Movement>, Failed>;
    /// The last changes of an account, the latest first.
    ///
    /// # Errors
    /// The store.
    fn history(&self, account: AccountId, most: usize) -> Result<Vec<Movement>, Failed>;
    /// How a limit stands.
    fn standing(&self, bucket: &BucketKey) -> Standing;
    /// What is known of campaigns' windows that began on a day, from an account on, so many accounts at most.
    ///
    /// # Errors
    /// The store.
    fn day(&self, day: u32, from: AccountId, most: usize) -> Result<Page, Failed>;
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// GET or POST.
    pub post: bool,
    /// Path and query.
    pub target: String,
    /// Of a POST.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// JSON, else text.
    pub json: bool,
    /// What it says.
    pub body: String,
}

impl Answer {
    /// A refusal, as a member `error` or a line.
    pub fn error(status: u16, table: bool, why: &str) -> Answer {
        if table {
            return Answer { status, json: false, body: format!("{why}\n") };
        }
        json(status, |o| o.text("error", why.as_bytes()))
    }
}

fn json(status: u16, fill: impl FnOnce(&mut Object<'_>)) -> Answer {
    let mut body = String::new();
    Object::write(&mut body, fill);
    body.push('\n');
    Answer { status, json: true, body }
}

fn table(body: String) -> Answer {
    Answer { status: 200, json: false, body }
}

/// What the query says; what it says besides is not looked at.
struct Query {
    table: bool,
    from: u32,
    most: usize,
}

impl Query {
    fn of(query: &str) -> Query {
        let value = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        Query {
            table: value("format") == Some("table"),
            from: value("from").and_then(|n| n.parse().ok()).unwrap_or(0),
            most: value("most").and_then(|n| n.parse().ok()).unwrap_or(MOST).clamp(1, 100 * MOST),
        }
    }
}

/// Answers a request.
pub fn answer(call: &Call, manager: &mut dyn Manager) -> Answer {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let query = Query::of(query);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let done = match (call.post, &parts[..]) {
        (true, ["budget", "operations"]) => operation(&call.body, &query, manager),
        (false, ["budget", "accounts"]) => Ok(list(&query, manager)),
        (false, ["budget", "accounts", name]) => one(name, &query, manager),
        (false, ["budget", "accounts", name, "history"]) => history(name, &query, manager),
        (false, ["budget", "days", date]) => day(date, &query, manager),
        _ => {
            let pages = "GET /budget/accounts, /budget/accounts/NAME, /budget/accounts/NAME/history, /budget/days/DATE; \
                         POST /budget/operations";
            return Answer::error(404, query.table, pages);
        }
    };
    done.unwrap_or_else(|failed| {
        let status = match &failed {
            Failed::Refused(Refused::Unknown { .. }) => 404,
            Failed::Refused(_) => 422,
            Failed::Store(_) => 503,
        };
        Answer::error(status, query.table, &failed.to_string())
    })
}

fn operation(body: &[u8], query: &Query, manager: &mut dyn Manager) -> Result<Answer, Failed> {
    let operation = match request::parse(body) {
        Ok(operation) => operation,
        Err(why) => return Ok(Answer::error(400, query.table, &why.to_string())),
    };
    let moved = manager.apply(&operation)?;
    if query.table {
        let mut out = String::new();
        match &moved {
            Some(moved) => history_table(manager.tree(), std::slice::from_ref(moved), &mut out),
            None => out = format!("{} is so already\n", operation.account),
        }
        return Ok(table(out));
    }
    Ok(json(200, |o| {
        o.number("changed", moved.is_some());
        if let Some(moved) = &moved {
            o.object("change", |o| show::movement(moved, o));
        }
    }))
}

/// What runs now of an account's limits.
struct Running {
    span: Span,
    ceiling: Option<Money>,
    standing: Standing,
}

fn running(manager: &dyn Manager, account: &Account) -> Vec<Running> {
    let buckets = manager.tree().running(account.id, manager.now_ms()).unwrap_or_default();
    let running =
        |b: &BucketKey| Running { span: b.span, ceiling: manager.tree().ceiling(b), standing: manager.standing(b) };
    buckets.iter().map(running).collect()
}

fn account_json(manager: &dyn Manager, account: &Account, o: &mut Object<'_>) {
    o.number("id", account.id.0);
    show::terms(&Terms::of(account), o);
    if let Some(state) = manager.tree().state(account.id).filter(|s| *s != account.state) {
        o.word("advertiser_is", state.name());
    }
    for now in running(manager, account) {
        let name = match now.span {
            Span::Day => "today",
            Span::Hour => "this_hour",
            Span::Life => "in_all",
        };
        o.object(name, |o| {
            let Standing { committed, spent, held, leased, quarantined, forfeit } = now.standing;
            o.some_number("ceiling", now.ceiling);
            let all = [("committed", committed), ("spent", spent), ("held", held), ("leased", leased)];
            for (name, money) in all.into_iter().chain([("quarantined", quarantined), ("forfeit", forfeit)]) {
                o.number(name, money);
            }
        });
    }
}

fn accounts_table(manager: &dyn Manager, accounts: &[&Account], out: &mut String) {
    let headings = [
        "account",
        "state",
        ">daily",
        ">today",
        ">committed",
        ">spent",
        ">hourly",
        ">lifetime",
        "zone",
        "pacing",
        "dsp",
        "seat",
        "cid",
    ];
    let mut columns = Columns::new(&headings);
    let money = |m: Option<Money>| m.map_or("-".to_owned(), |m| m.to_string());
    for account in accounts {
        let terms = Terms::of(account);
        let state = manager.tree().state(account.id).unwrap_or(account.state);
        let day = running(manager, account).into_iter().find(|r| r.span == Span::Day);
        let texts = [&terms.dsp, &terms.seat, &terms.cid].map(|t| plain(t.as_bytes()));
        let [dsp, seat, cid] = texts;
        columns.row([
            account.name.clone(),
            state.name().to_owned(),
            terms.limits.daily.to_string(),
            money(day.as_ref().and_then(|d| d.ceiling)),
            money(day.as_ref().map(|d| d.standing.committed)),
            money(day.as_ref().map(|d| d.standing.spent)),
            money(terms.limits.hourly),
            money(terms.limits.lifetime),
            terms.zone,
            account.pacing.name().to_owned(),
            dsp,
            seat,
            cid,
        ]);
    }
    columns.write(out);
}

fn list(query: &Query, manager: &dyn Manager) -> Answer {
    let mut accounts = manager.tree().list().filter(|a| a.id.0 >= query.from);
    let shown: Vec<&Account> = accounts.by_ref().take(query.most).collect();
    let next = accounts.next().map(|a| a.id.0);
    if query.table {
        let mut out = String::new();
        accounts_table(manager, &shown, &mut out);
        if let Some(next) = next {
            out += &format!("  there are more: --from {next}\n");
        }
        return table(out);
    }
    json(200, |o| {
        o.list("accounts", shown, |o, account| account_json(manager, account, o));
        o.some_number("next", next);
    })
}

fn day(date: &str, query: &Query, manager: &dyn Manager) -> Result<Answer, Failed> {
    let Some(day) = super::day::number(date) else {
        return Ok(Answer::error(404, true, "a day is a date such as 2026-01-31"));
    };
    Ok(table(manager.day(day, AccountId(query.from), query.most)?.text()))
}

fn named<'t>(tree: &'t Tree, name: &str) -> Result<&'t Account, Failed> {
    tree.named(name).ok_or_else(|| {
        let nearest = suggest::nearest(name, tree.names()).map(str::to_owned);
        Failed::Refused(Refused::Unknown { name: plain(name.as_bytes()), nearest })
    })
}

fn one(name: &str, query: &Query, manager: &dyn Manager) -> Result<Answer, Failed> {
    let account = named(manager.tree(), name)?;
    if query.table {
        let mut out = String::new();
        accounts_table(manager, &[account], &mut out);
        if account.calendar.cuttings().len() > 1 {
            let since = when::utc(account.calendar.last().since.starts_ms());
            out += &format!("  zone and hourly limit as shown hold from {since} on\n");
        }
        return Ok(table(out));
    }
    Ok(json(200, |o| account_json(manager, account, o)))
}

fn history(name: &str, query: &Query, manager: &dyn Manager) -> Result<Answer, Failed> {
    let account = named(manager.tree(), name)?;
    let moved = manager.history(account.id, query.most)?;
    if query.table {
        let mut out = String::new();
        history_table(manager.tree(), &moved, &mut out);
        return Ok(table(out));
    }
    Ok(json(200, |o| o.list("history", &moved, |o, moved| show::movement(moved, o))))
}

fn history_table(tree: &Tree, moved: &[Movement], out: &mut String) {
    let mut columns = Columns::new(&["when", "account", "did", "by", "who", "what"]);
    for m in moved {
        columns.row([
            when::utc(m.wall_ms),
            name_of(tree, m.account),
            m.deed.name().to_owned(),
            m.by.name().to_owned(),
            plain(m.who.as_bytes()),
            difference(m),
        ]);
    }
    columns.write(out);
}

/// What a change made of what.
fn difference(m: &Movement) -> String {
    let money = |m: Option<Money>| m.map_or("-".to_owned(), |m| m.to_string());
    let words = |t: &Terms| {
        [
            ("daily", t.limits.daily.to_string()),
            ("hourly", money(t.limits.hourly)),
            ("lifetime", money(t.limits.lifetime)),
            ("extra today", money(t.extra.map(|e| e.1))),
            ("zone", t.zone.clone()),
            ("state", t.state.name().to_owned()),
            ("pacing", t.pacing.name().to_owned()),
        ]
    };
    let (before, after) = (m.before.as_ref().map(words), words(&m.after));
    let mut parts: Vec<String> = Vec::new();
    for (at, (name, now)) in after.iter().enumerate() {
        match before.as_ref().and_then(|b| b.get(at)) {
            None if now == "-" => {}
            None => parts.push(format!("{name} {now}")),
            Some((_, was)) if was == now => {}
            Some((_, was)) => parts.push(format!("{name} {was} -> {now}")),
        }
    }
    if let Some(c) = &m.conversion {
        parts.push(format!("given in {} at {} ({})", c.currency, Money(c.rate.0 as i64), plain(c.table.as_bytes())));
    }
    parts.join(", ")
}

#[cfg(test)]
#[path = "api_tests.rs"]
pub(crate) mod tests;
