//! Notice URLs as anybody may send them: nothing is believed that we did not sign, whatever is done to what we did.
use outcry::{
    budget::{AccountId, Period},
    notice::{
        keys::Keys,
        price::charged,
        seen::{PAGE_BYTES, Restored, Seen},
        token::{Kind, Token, URL_MAX},
    },
    units::{Cpm, EventId, Money},
};

/// The first byte chooses: a token as it came, one of ours with something done to it, a price in a query, a checkpoint.
pub fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 => forged(rest),
        1 => changed(rest),
        2 => priced(rest),
        _ => restored(rest),
    }
}

fn keys() -> Keys {
    // The fuzzer does not know them, as it reads no source: for it they are secrets.
    Keys::new(&[(3, b"a secret that signs, 32 bytes..."), (2, b"the one before it, 32 bytes....")]).expect("keys")
}

fn token<'a>(ids: &[u8; 16], url: &'a [u8]) -> Token<'a> {
    let n = u128::from_le_bytes(*ids) as u64;
    Token {
        kind: Kind::ALL[usize::from(ids[0]) % 3],
        event: EventId { node: n as u32, epoch: (n >> 32) as u32, core: n as u16, seq: n },
        imp: ids[1],
        price: Cpm(i64::from(ids[2]) << 20),
        floor: Cpm(i64::from(ids[3]) << 20),
        charge: Money(i64::from(ids[4]) << 20),
        account: AccountId(n as u32),
        period: Period((n >> 24) as u32),
        open: ids[6] % 2 == 1,
        expires_s: (n >> 16) as u32,
        url,
    }
}

fn forged(text: &[u8]) {
    let (keys, mut bytes) = (keys(), Vec::new());
    assert!(Token::read(text, &keys, &mut bytes).is_err(), "nobody but us signs");
}

fn changed(data: &[u8]) {
    let Some((&[at, to], rest)) = data.split_first_chunk::<2>() else { return };
    let Some((ids, url)) = rest.split_first_chunk::<16>() else { return };
    let (keys, mut text, mut bytes) = (keys(), Vec::new(), Vec::new());
    let token = token(ids, url);
    if token.write(&keys, &mut text).is_err() {
        assert!(url.len() > URL_MAX, "only a long URL cannot be written");
        return;
    }
    assert_eq!(text.len(), token.spelled_len());
    assert_eq!(Token::read(&text, &keys, &mut bytes), Ok(token));
    let at = usize::from(at) * text.len() / 256;
    if std::mem::replace(&mut text[at], to) != to {
        assert!(Token::read(&text, &keys, &mut bytes).is_err(), "one character is another: {at}");
    }
    text.truncate(at);
    assert!(Token::read(&text, &keys, &mut bytes).is_err(), "cut short");
}

fn priced(data: &[u8]) {
    let Some((ids, said)) = data.split_first_chunk::<16>() else { return };
    let mut token = token(ids, b"");
    // As an auction leaves them: a price, a floor that it reaches, a charge that is a multiple of it.
    token.price = Cpm(token.price.0.max(1));
    token.floor = token.floor.min(token.price);
    token.charge = Money(token.price.0 * (1 + i64::from(ids[5])));
    for open in [false, true] {
        token.open = open;
        let charge = charged(&token, Some(said)).charge;
        let least = token.floor.0 * (1 + i64::from(ids[5]));
        assert!((least..=token.charge.0).contains(&charge.0), "{charge:?} of {token:?}");
    }
}

fn restored(data: &[u8]) {
    let (mut seen, mut again) = (Seen::new(4, 7), Seen::new(4, 8));
    for page in data.chunks(PAGE_BYTES) {
        let said = seen.restore(page, 0);
        assert_eq!(page.len() == PAGE_BYTES, said != Restored::Garbled, "half a page is none");
    }
    let snapshot = |seen: &Seen| {
        let mut out = Vec::new();
        assert_eq!(seen.snapshot(0, 4, &mut out), None, "there are no more");
        out
    };
    let whole = snapshot(&seen);
    for page in whole.chunks(PAGE_BYTES) {
        assert_eq!(again.restore(page, 0), Restored::Taken);
    }
    assert_eq!(snapshot(&again), whole, "nothing is lost from start to start");
}
