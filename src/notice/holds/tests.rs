use super::*;

const LINE: LineKey = LineKey { account: AccountId(7), period: Period(29_000_000) };
const OF: Of = Of { epoch: 3, line: LINE };

fn at(s: u64) -> Now {
    Now { boot_ns: s * 1_000 * MS, wall_offset_ns: 0 }
}

fn all(holds: &mut Holds, now: Now) -> Vec<Lapse> {
    let mut out = Vec::new();
    while let Some(lapse) = holds.due(now) {
        holds.lapse(&lapse);
        out.push(lapse);
    }
    out
}

#[test]
fn a_notice_in_time_keeps_what_it_names_and_the_rest_goes_home() {
    let mut holds = Holds::new();
    holds.hold(OF, 600, Money(10), at(0));
    holds.hold(OF, 659, Money(5), at(30));
    holds.hold(OF, 660, Money(3), at(30));
    assert_eq!(holds.billed(OF, 600, Money(10), Money(10)), Billed::Settled);
    assert_eq!(all(&mut holds, at(719)), [], "the minute and the grace are not over");
    assert_eq!(all(&mut holds, at(720)), [Lapse { of: OF, minute: 10, amount: Money(5) }]);
    assert_eq!(holds.billed(OF, 659, Money(5), Money(5)), Billed::Late);
    assert_eq!(holds.of(OF), Sums { held: Money(3), lapsed: Money(5), ..Sums::default() });
    assert_eq!(all(&mut holds, at(780)), [Lapse { of: OF, minute: 11, amount: Money(3) }]);
    assert_eq!((holds.total(), holds.due(at(100_000))), (0, None));
}

#[test]
fn what_a_lower_price_leaves_goes_home_at_once() {
    let mut holds = Holds::new();
    holds.hold(OF, 600, Money(10), at(0));
    holds.hold(OF, 600, Money(10), at(0));
    for _ in 0..2 {
        assert_eq!(holds.billed(OF, 600, Money(10), Money(7)), Billed::Settled);
    }
    assert_eq!(all(&mut holds, at(1)), [Lapse { of: OF, minute: 0, amount: Money(6) }], "in one sum");
    assert_eq!(holds.of(OF), Sums { lapsed: Money(6), ..Sums::default() });
    assert_eq!((holds.total(), all(&mut holds, at(720))), (0, vec![]));
}

/// Records of two cores are read in any order.
#[test]
fn a_notice_that_is_read_before_its_win_settles_it() {
    let mut holds = Holds::new();
    assert_eq!(holds.billed(OF, 600, Money(10), Money(7)), Billed::Settled);
    let mut bytes = Vec::new();
    holds.write(&mut bytes);
    let mut holds = Holds::read(&bytes, at(0)).expect("as it was written");
    holds.hold(OF, 600, Money(10), at(0));
    assert_eq!(holds.total(), 0);
    assert_eq!(all(&mut holds, at(720)), [Lapse { of: OF, minute: 0, amount: Money(3) }]);
    // Of a win that is on no record nothing is kept.
    assert_eq!(holds.billed(OF, 660, Money(10), Money(10)), Billed::Settled);
    assert_eq!((all(&mut holds, at(780)).len(), holds.of(OF).held), (0, Money(0)));
}

/// A wall clock that is set forward does not take the money of wins whose notices may come when it is set back.
#[test]
fn a_clock_that_jumps_takes_nothing() {
    let mut holds = Holds::new();
    holds.hold(OF, 600, Money(10), at(0));
    let jumped = Now { wall_offset_ns: 3_600_000 * MS as i64, ..at(60) };
    assert_eq!(all(&mut holds, jumped), []);
    let set_back = Now { wall_offset_ns: -3_600_000 * MS as i64, ..at(3_600 + 700) };
    assert_eq!(all(&mut holds, set_back), [], "its tokens have not expired by this clock");
    assert_eq!(all(&mut holds, at(4_400)).len(), 1);
}

#[test]
fn it_is_read_as_it_was_written() {
    let mut holds = Holds::new();
    let other = Of { epoch: 4, line: LineKey { account: AccountId(8), ..LINE } };
    holds.hold(OF, 600, Money(10), at(0));
    holds.hold(OF, 900, Money(20), at(0));
    holds.hold(other, 600, Money(30), at(0));
    holds.billed(other, 600, Money(30), Money(25));
    holds.ended(OF, Money(100), Money(1));
    let mut bytes = Vec::new();
    holds.write(&mut bytes);
    let mut read = Holds::read(&bytes, at(100)).expect("as it was written");
    assert_eq!(read.lines_of(3).collect::<Vec<_>>(), holds.lines_of(3).collect::<Vec<_>>());
    assert_eq!(read.of(OF).last, Some((Money(100), Money(1))));
    assert_eq!((read.total(), read.count()), (30, 4));
    assert_eq!(all(&mut read, at(719)), [Lapse { of: other, minute: 0, amount: Money(5) }]);
    assert_eq!(all(&mut read, at(1_020)).iter().map(|l| l.amount.0).collect::<Vec<_>>(), [10, 20]);
    for len in 0..bytes.len() {
        assert!(Holds::read(&bytes[..len], at(0)).is_err(), "{len}");
    }
    bytes.push(0);
    assert!(Holds::read(&bytes, at(0)).is_err());
}

#[test]
fn records_are_these_bytes() {
    let lapse = Lapse { of: OF, minute: 0x0102, amount: Money(0x0304) };
    let mut out = Vec::new();
    lapse.encode(&mut out);
    assert_eq!(out, b"\x03\0\0\0\x07\0\0\0\x40\x81\xba\x01\x02\x01\0\0\x04\x03\0\0\0\0\0\0");
    assert_eq!(Lapse::decode(&out), Ok(lapse));
    assert_eq!(Lapse::decode(&out[..23]), Err(RecordError::Short));
    out.push(0);
    assert_eq!(Lapse::decode(&out), Err(RecordError::Trailing));
}

/// What has long been over is forgotten, what is held is not, nor what somebody has to be told of.
#[test]
fn windows_that_are_over_are_forgotten() {
    let mut holds = Holds::new();
    holds.hold(OF, 600, Money(10), at(0));
    let minute = |n: u64| at((u64::from(LINE.period.0) + n) * 60);
    holds.changes();
    holds.tidy(4_000, minute(5_000));
    assert!(holds.knows(OF), "something is held");
    all(&mut holds, minute(0));
    holds.tidy(4_000, minute(5_000));
    assert!(holds.knows(OF), "nobody was told");
    holds.changes();
    holds.tidy(4_000, minute(3_999));
    assert!(holds.knows(OF));
    holds.tidy(4_000, minute(4_000));
    assert_eq!((holds.knows(OF), holds.count()), (false, 0));
}

/// A clock that ran ahead let a minute go; it comes again.
#[test]
fn a_minute_that_comes_again_holds_again() {
    let mut holds = Holds::new();
    holds.hold(OF, 6_000, Money(10), at(0));
    assert_eq!(all(&mut holds, at(7_000)).len(), 1);
    assert_eq!(holds.billed(OF, 6_000, Money(10), Money(10)), Billed::Late);
    holds.hold(OF, 3_000, Money(10), at(2_000));
    assert_eq!(holds.billed(OF, 3_000, Money(10), Money(10)), Billed::Settled);
    assert_eq!((holds.total(), all(&mut holds, at(7_000)).len()), (0, 0));
}

/// What is kept does not grow with traffic.
#[test]
fn notices_that_are_out_take_the_room_of_their_windows_and_minutes() {
    let mut holds = Holds::new();
    let (campaigns, minutes, each) = (1_000, 61, if cfg!(debug_assertions) { 2 } else { 16 });
    for n in 0..each * campaigns * minutes {
        let account = AccountId(1 + n % campaigns);
        let of = Of { epoch: 3, line: LineKey { account, ..LINE } };
        holds.hold(of, n / campaigns % minutes * 60, Money(1), at(0));
    }
    assert_eq!(holds.count() as u32, campaigns + campaigns * minutes);
    assert_eq!(holds.total(), i128::from(each * campaigns * minutes));
}
