use super::*;
use proptest::prelude::*;

/// One with everything there can be, one with the least.
pub(crate) fn movements() -> [Movement; 2] {
    let before = Terms {
        name: "summer".into(),
        advertiser: AccountId(1),
        dsp: "north".into(),
        seat: "s-7".into(),
        cid: "c\u{e4}".into(),
        zone: "Europe/Berlin".into(),
        since: Period(29_920_320),
        limits: Limits { daily: Money(100_000_000_000), hourly: Some(Money(5_000_000_000)), lifetime: None },
        extra: None,
        state: State::Active,
        pacing: Pacing::Even,
    };
    let after = Terms {
        limits: Limits { daily: Money(108_370_000_001), hourly: None, lifetime: Some(Money(9)) },
        extra: Some((Period(29_920_000), Money(1_500_000_000))),
        state: State::Paused,
        ..before.clone()
    };
    let advertiser = Terms {
        name: "acme".into(),
        advertiser: AccountId::NONE,
        dsp: String::new(),
        seat: String::new(),
        cid: String::new(),
        since: Period(0),
        limits: Limits { daily: Money(1), hourly: None, lifetime: None },
        ..before.clone()
    };
    let conversion = Conversion { currency: Currency(*b"EUR"), rate: Rate(1_083_700_000), table: "2026-11-21".into() };
    let all = Movement {
        wall_ms: 1_795_219_200_000,
        account: AccountId(2),
        deed: Deed::Set,
        by: By::Admin,
        who: "ops".into(),
        conversion: Some(conversion),
        before: Some(before),
        after,
    };
    let least = Movement {
        wall_ms: 1,
        account: AccountId(1),
        deed: Deed::Add,
        by: By::File,
        who: String::new(),
        conversion: None,
        before: None,
        after: advertiser,
    };
    [all, least]
}

pub(crate) fn encoded(movement: &Movement) -> Vec<u8> {
    let mut out = Vec::new();
    movement.encode(&mut out);
    out
}

/// What is on record stays readable: these bytes may not change without a new version. `OUTCRY_BLESS` writes them.
#[test]
fn these_are_the_bytes_of_version_1() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let lines: String = movements().iter().map(|m| hex(encoded(m)) + "\n").collect();
    if std::env::var_os("OUTCRY_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/budget/movement_v1.golden.txt"), &lines).unwrap();
        return;
    }
    assert_eq!(lines, include_str!("movement_v1.golden.txt"));
}

#[test]
fn a_movement_is_read_back_and_nothing_else_is() {
    for movement in movements() {
        let bytes = encoded(&movement);
        assert!(bytes.len() <= BYTES_MAX);
        assert_eq!(Movement::decode(VERSION, &bytes).as_ref(), Ok(&movement));
        assert_eq!(Movement::decode(VERSION + 1, &bytes), Err(RecordError::Version));
        for cut in 0..bytes.len() {
            assert_eq!(Movement::decode(VERSION, &bytes[..cut]), Err(RecordError::Short));
        }
        assert_eq!(Movement::decode(VERSION, &[&bytes[..], &[0]].concat()), Err(RecordError::Trailing));
    }
}

#[test]
fn an_account_is_read_back_with_what_is_to_come() {
    let mut zones = Zones::default();
    let mut calendar = Calendar::new(zones.get("UTC").unwrap(), None);
    calendar.set_zone(zones.get("Asia/Tokyo").unwrap(), 29_920_320);
    calendar.set_hourly(Some(Money(7)), 29_920_320);
    let owner = Owner::Campaign { advertiser: AccountId(1), dsp: "d".into(), seat: "".into(), cid: "c".into() };
    let account = Account {
        id: AccountId(2),
        name: "x".into(),
        owner,
        calendar,
        daily: Money(5),
        lifetime: Some(Money(9)),
        extra: Some((Period(3), Money(4))),
        state: State::Paused,
        pacing: Pacing::Even,
    };
    let advertiser = Account { owner: Owner::Advertiser, ..account.clone() };
    for account in [account, advertiser] {
        let bytes = account_bytes(&account);
        assert_eq!(account_of(AccountId(2), &bytes, &mut zones).as_ref(), Ok(&account));
        assert!((0..bytes.len()).all(|cut| account_of(AccountId(2), &bytes[..cut], &mut zones).is_err()));
    }
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics(bytes: Vec<u8>, at in 0..200usize, bit in 0..8u8) {
        let _ = Movement::decode(VERSION, &bytes);
        let _ = account_of(AccountId(1), &bytes, &mut Zones::default());
        let mut near = encoded(&movements()[0]);
        if let Some(byte) = near.get_mut(at) {
            *byte ^= 1 << bit;
        }
        let _ = Movement::decode(VERSION, &near);
    }
}
