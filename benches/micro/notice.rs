//! A notice URL of ours: signed with the answer, read when somebody calls it.
//! Owns: the keys, a token, what was seen. Called by: `micro`.
use crate::counted;
use outcry::{
    budget::{AccountId, Period},
    notice::{
        keys::Keys,
        seen::{Mark, Seen},
        token::{Kind, Token},
    },
    units::{Cpm, EventId, Money},
};
use std::hint::black_box;

/// As DSPs write them, with macros filled.
const URL: &[u8] =
    b"https://win.dsp.example/bill?auction=6f1c2d3e-9a41-4a7e-8f55-0c9d2b7e11aa&imp=1&price=0.91&cur=USD&c=cr-205";

pub(crate) struct Notices {
    keys: Keys,
    seen: Seen,
    text: Vec<u8>,
    bytes: Vec<u8>,
}

fn token(seq: u64) -> Token<'static> {
    Token {
        kind: Kind::Billed,
        event: EventId { node: 1, epoch: 2, core: 3, seq },
        imp: 0,
        price: Cpm(910_000),
        floor: Cpm(850_000),
        charge: Money(910_000),
        account: AccountId(17),
        period: Period(29_880_000),
        open: false,
        awaited: false,
        expires_s: 1_800_000_000,
        buyer: b"",
        url: URL,
    }
}

impl Notices {
    pub(crate) fn new() -> Notices {
        let keys = Keys::new(&[(1, &[7; 32]), (0, &[8; 32])]).expect("keys");
        let notices = Notices { keys, seen: Seen::new(64, 42), text: Vec::with_capacity(4_096), bytes: Vec::new() };
        println_len(&notices.keys);
        notices
    }

    pub(crate) fn write(&mut self, count: bool, i: usize) {
        let Notices { keys, text, .. } = self;
        text.clear();
        counted(count, || assert!(black_box(token(i as u64)).write(keys, text).is_ok()));
    }

    /// Read, and noted as taken.
    pub(crate) fn read(&mut self, count: bool, i: usize) {
        let Notices { keys, seen, text, bytes } = self;
        text.clear();
        token(i as u64).write(keys, text).expect("it can be written");
        let first = seen.bytes();
        counted(count, || {
            let token = Token::read(black_box(text), keys, bytes).expect("it is ours");
            let mark = seen.take(token.event, token.imp, token.kind, token.expires_s, 1_700_000_000);
            assert!(black_box(mark) != Mark::Full);
        });
        assert_eq!(first, seen.bytes());
    }
}

fn println_len(keys: &Keys) {
    let mut text = Vec::new();
    token(1).write(keys, &mut text).expect("it can be written");
    eprintln!("a token with a URL of {} bytes has {} characters", URL.len(), text.len());
}
