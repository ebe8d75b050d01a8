use super::*;
use proptest::prelude::*;

const HOLDER: HolderId = HolderId { node: 0xff, epoch: 3 };

fn ended(account: u32) -> Ended {
    Ended {
        line: LineKey { account: AccountId(account), period: Period(29_920_320) },
        how: How::Proven,
        granted: Money(10_000_000_000),
        returned: Money(4_000_000_000),
        charged: Money(6_250_000_000),
        freed: Money(250_000_000),
    }
}

/// One of each.
pub(crate) fn events() -> [Event; 3] {
    let settled = Settled {
        lines: 2,
        returned: Money(4_000_000_000),
        spent: Money(6_000_000_000),
        held: Money(0),
        forfeit: Money(1),
    };
    let lines = vec![ended(7), Ended { how: How::Forfeit, returned: Money(0), ..ended(8) }];
    [
        What::Settled { holder: HOLDER, complete: true, settled },
        What::Ended { holder: HOLDER, lines },
        What::Stopped { account: AccountId(7), level: Level::Server, invariant: "core_sums".to_owned() },
    ]
    .map(|what| Event { wall_ms: 1_795_219_200_000, what })
}

fn encoded(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    event.encode(&mut out);
    out
}

/// What is on record stays readable: these bytes may not change without a new version. `OUTCRY_BLESS` writes them.
#[test]
fn these_are_the_bytes_of_version_1() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let lines: String = events().iter().map(|e| hex(encoded(e)) + "\n").collect();
    if std::env::var_os("OUTCRY_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/budget/event_v1.golden.txt"), &lines).unwrap();
        return;
    }
    assert_eq!(lines, include_str!("event_v1.golden.txt"));
}

#[test]
fn an_event_is_read_back_and_nothing_else_is() {
    for event in events() {
        let bytes = encoded(&event);
        assert_eq!(Event::decode(VERSION, &bytes).as_ref(), Ok(&event));
        assert_eq!(Event::decode(VERSION + 1, &bytes), Err(RecordError::Version));
        assert!((0..bytes.len()).all(|cut| Event::decode(VERSION, &bytes[..cut]) == Err(RecordError::Short)));
        assert_eq!(Event::decode(VERSION, &[&bytes[..], &[0]].concat()), Err(RecordError::Trailing));
    }
}

#[test]
fn many_lines_end_in_frames_of_one_holder_each() {
    let other = HolderId { epoch: 4, ..HOLDER };
    let lines = (0..ENDED_MAX as u32 + 2).rev().map(|n| (HOLDER, ended(n))).chain([(other, ended(1))]).collect();
    let events: Vec<Event> = Event::ended(5, lines).collect();
    let shape: Vec<(u32, usize)> = events
        .iter()
        .map(|event| match &event.what {
            What::Ended { holder, lines } => {
                assert!(lines.is_sorted_by_key(|l| l.line.account));
                assert!(encoded(event).len() <= BYTES_MAX);
                (holder.epoch, lines.len())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shape, [(3, ENDED_MAX), (3, 2), (4, 1)]);
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics_and_what_is_read_is_written_so(bytes: Vec<u8>, what in 1..4u8, of in 0..3usize, at in 0..200usize, bit in 0..8u8) {
        let head = [&[0; 8][..], &[what]].concat();
        let mut flipped = encoded(&events()[of]);
        let at = at % flipped.len();
        flipped[at] ^= 1 << bit;
        for bytes in [bytes.clone(), [&head[..], &bytes[..]].concat(), flipped] {
            if let Ok(event) = Event::decode(VERSION, &bytes) {
                prop_assert_eq!(encoded(&event), bytes);
            }
        }
    }
}
