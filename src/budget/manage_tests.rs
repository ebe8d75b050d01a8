use super::*;
use crate::{
    budget::{
        tree::Limits,
        window::{BucketKey, Span},
    },
    config,
    units::Rate,
};

/// 2026-11-21T12:00Z.
pub(crate) const NOON_MS: u64 = (20_778 * 1440 + 720) * 60_000;
const UNIT: i64 = 1_000_000_000;

pub(crate) fn configured() -> config::Config {
    let text = "[rates]\nid = \"2026-11-21\"\n[rates.table]\nEUR = 1.0837\n[[dsp]]\nname = \"north\"\nurl = \"http://127.0.0.1:1/\"\n\
                seats = [\"s1\"]\n[[dsp]]\nname = \"south\"\nurl = \"http://127.0.0.1:2/\"\n";
    config::load(text, 1).unwrap_or_else(|e| panic!("{e:?}"))
}

pub(crate) fn known(config: &config::Config) -> Known<'_> {
    Known { rates: &config.rates, dsps: &config.dsps, now_ms: NOON_MS }
}

fn op(account: &str, act: Act) -> Operation {
    Operation { account: account.into(), act, currency: None, who: "ops".into(), by: By::Admin }
}

fn daily(units: i64) -> Changes {
    Changes { daily: Some(Money(units * UNIT)), ..Changes::default() }
}

fn campaign(name: &str, dsp: &str, seat: &str, cid: &str) -> Operation {
    let [dsp, seat, cid] = [dsp, seat, cid].map(str::to_owned);
    op(name, Act::AddCampaign { advertiser: "acme".into(), dsp, seat, cid, changes: daily(10) })
}

/// An advertiser and a campaign.
pub(crate) fn tree() -> Tree {
    let (mut tree, config) = (Tree::default(), configured());
    let acme = op("acme", Act::AddAdvertiser(Changes { zone: Some("europe/berlin".into()), ..daily(100) }));
    for operation in [acme, campaign("summer", "north", "s1", "c1")] {
        apply(&mut tree, &operation, &known(&config)).unwrap().unwrap();
    }
    tree
}

#[test]
fn accounts_are_added_and_changed_and_each_change_is_told() {
    let (mut tree, config) = (tree(), configured());
    let summer = tree.campaign("north", "s1", "c1").unwrap().clone();
    assert_eq!((summer.id, summer.zone().name(), summer.daily), (AccountId(2), "Europe/Berlin", Money(10 * UNIT)));
    let changes = Changes { hourly: Some(Some(Money(UNIT))), lifetime: Some(Some(Money(50 * UNIT))), ..daily(20) };
    let moved = apply(&mut tree, &op("summer", Act::Set(changes.clone())), &known(&config)).unwrap().unwrap();
    assert_eq!((moved.deed, moved.account, moved.wall_ms), (Deed::Set, AccountId(2), NOON_MS));
    assert_eq!(moved.before, Some(Terms::of(&summer)));
    let limits = Limits { daily: Money(20 * UNIT), hourly: Some(Money(UNIT)), lifetime: Some(Money(50 * UNIT)) };
    assert_eq!((moved.after.limits, moved.after.since), (limits, Period((NOON_MS / 60_000) as u32 + 60)));
    // The same again is no change.
    assert_eq!(apply(&mut tree, &op("summer", Act::Set(changes)), &known(&config)), Ok(None));
    for (act, deed, state) in [
        (Act::Pause, Deed::Pause, State::Paused),
        (Act::Resume, Deed::Resume, State::Active),
        (Act::End, Deed::End, State::Ended),
    ] {
        let moved = apply(&mut tree, &op("summer", act.clone()), &known(&config)).unwrap().unwrap();
        assert_eq!((moved.deed, moved.after.state), (deed, state));
        assert_eq!(apply(&mut tree, &op("summer", act), &known(&config)), Ok(None));
    }
}

#[test]
fn other_currencies_are_converted_down_at_a_rate_that_is_told() {
    let (mut tree, config) = (tree(), configured());
    let eur = Operation { currency: Currency::parse(b"EUR"), ..op("summer", Act::Set(Changes::default())) };
    let set =
        |nanos| Operation { act: Act::Set(Changes { daily: Some(Money(nanos)), ..Changes::default() }), ..eur.clone() };
    let moved = apply(&mut tree, &set(100 * UNIT + 1), &known(&config)).unwrap().unwrap();
    assert_eq!(moved.after.limits.daily, Money(108_370_000_001));
    let conversion = Conversion { currency: Currency(*b"EUR"), rate: Rate(1_083_700_000), table: "2026-11-21".into() };
    assert_eq!(moved.conversion, Some(conversion));
    // A rate of 1 is none, and neither has a pause one.
    let usd = Operation { currency: Some(Currency::USD), ..set(UNIT) };
    assert_eq!(apply(&mut tree, &usd, &known(&config)).unwrap().unwrap().conversion, None);
    let pause = Operation { act: Act::Pause, ..eur.clone() };
    assert_eq!(apply(&mut tree, &pause, &known(&config)).unwrap().unwrap().conversion, None);
    let yen = Operation { currency: Currency::parse(b"JPY"), ..set(UNIT) };
    let refused = apply(&mut tree, &yen, &known(&config)).unwrap_err();
    assert_eq!(refused.to_string(), "there is no rate for JPY in the table of 2026-11-21; known: EUR, USD");
    // What is the most in one currency is too much in the other.
    let refused = apply(&mut tree, &set(Money::MAX.0), &known(&config)).unwrap_err();
    assert!(matches!(refused, Refused::Amount { .. }), "{refused}");
}

#[test]
fn top_ups_add_to_today_or_to_all() {
    let (mut tree, config) = (tree(), configured());
    let more = Money(5 * UNIT);
    let refused = apply(&mut tree, &op("summer", Act::TopUpLifetime(more)), &known(&config)).unwrap_err();
    assert_eq!(refused, Refused::NoLifetime("summer".into()));
    let lifetime = Changes { lifetime: Some(Some(Money(UNIT))), ..Changes::default() };
    apply(&mut tree, &op("summer", Act::Set(lifetime)), &known(&config)).unwrap().unwrap();
    for _ in 0..2 {
        apply(&mut tree, &op("summer", Act::TopUpToday(more)), &known(&config)).unwrap().unwrap();
        apply(&mut tree, &op("summer", Act::TopUpLifetime(more)), &known(&config)).unwrap().unwrap();
    }
    let window = tree.window(AccountId(2), NOON_MS).unwrap();
    let ceiling = |tree: &Tree, b: &BucketKey| tree.ceiling(b).map(|m| m.0 / UNIT);
    let ceilings: Vec<_> = window.buckets.iter().map(|b| (b.span, ceiling(&tree, b))).collect();
    let want = [(Span::Day, Some(20)), (Span::Life, Some(11)), (Span::Day, Some(100)), (Span::Life, None)];
    assert_eq!(ceilings, want);
    let tomorrow = Known { now_ms: NOON_MS + 86_400_000, ..known(&config) };
    let moved = apply(&mut tree, &op("summer", Act::TopUpToday(more)), &tomorrow).unwrap().unwrap();
    assert_eq!(moved.after.extra.map(|e| e.1), Some(more), "yesterday's is over");
    assert!(matches!(
        apply(&mut tree, &op("summer", Act::TopUpToday(Money(0))), &known(&config)),
        Err(Refused::Amount { .. })
    ));
}

#[test]
fn what_cannot_be_is_refused_in_words_and_changes_nothing() {
    let config = configured();
    let long = "x".repeat(limits::RECORD_TEXT_MAX + 1);
    let under = |advertiser: &str| {
        let [dsp, seat, cid] = ["north", "s1", "c9"].map(str::to_owned);
        op("new", Act::AddCampaign { advertiser: advertiser.into(), dsp, seat, cid, changes: daily(1) })
    };
    let zone = Changes { zone: Some("Europe/Berlni".into()), ..daily(1) };
    for (operation, want) in [
        (op("sumer", Act::Pause), "no account is named \"sumer\", did you mean \"summer\"?"),
        (op("summer", Act::AddAdvertiser(daily(1))), "there is an account named \"summer\""),
        (op("Summer!", Act::AddAdvertiser(daily(1))), "\"Summer!\" cannot be an account's name"),
        (op("", Act::AddAdvertiser(daily(1))), "\"\" cannot be an account's name"),
        (op("new", Act::AddAdvertiser(Changes::default())), "\"new\" needs a daily budget"),
        (op("new", Act::AddAdvertiser(daily(-1))), "the daily budget is -1; allowed: 0 to 1000000000"),
        (op("new", Act::AddAdvertiser(zone)), "no time zone is named \"Europe/Berlni\", did you mean Europe/Berlin?"),
        (
            campaign("new", "nroth", "s1", "c2"),
            "no DSP is named \"nroth\", did you mean \"north\"?; configured: north, south",
        ),
        (campaign("new", "north", "s2", "c2"), "DSP \"north\" may not bid for seat \"s2\"; it may for: s1"),
        (campaign("new", "south", "s2", &long), "cid has 129 bytes; allowed: at most 128"),
        (campaign("new", "north", "s1", "c1"), "bids of DSP \"north\", seat \"s1\", cid \"c1\" are paid by \"summer\""),
        (under("summer"), "\"summer\" is a campaign; campaigns are under advertisers"),
        (under("acmee"), "no account is named \"acmee\", did you mean \"acme\"?"),
    ] {
        let mut tree = tree();
        let refused = apply(&mut tree, &operation, &known(&config)).unwrap_err().to_string();
        assert!(refused.starts_with(want), "{refused}");
        assert!(tree.list().eq(self::tree().list()), "{refused}");
    }
    let mut tree = tree();
    apply(&mut tree, &op("acme", Act::End), &known(&config)).unwrap().unwrap();
    for operation in [op("acme", Act::Resume), op("acme", Act::TopUpToday(Money(1))), under("acme")] {
        assert_eq!(apply(&mut tree, &operation, &known(&config)), Err(Refused::Ended("acme".into())));
    }
}
