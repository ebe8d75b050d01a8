//! Notice URLs as anybody may send them: nothing is believed that we did not sign, whatever is done to what we did.
use outcry::{
    auction::{Later, fill_later},
    budget::{AccountId, Period},
    notice::{
        checkpoint,
        holds::Holds,
        keys::Keys,
        price::charged,
        seen::{PAGE_BYTES, Restored, Seen},
        target::{Host, Uncarried, target},
        token::{Kind, Token, URL_MAX},
        told::{Notice, Told},
    },
    units::{Cpm, EventId, Money, Now},
};

/// The first byte chooses: a token as it came, one of ours with something done to it, a price in a query, a page of a
/// checkpoint; a DSP's URL, a whole checkpoint, the two records.
pub fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match (choice & 128, choice % 4) {
        (0, 0) => forged(rest),
        (0, 1) => changed(rest),
        (0, 2) => priced(rest),
        (0, _) => restored(rest),
        (_, 0) => led(rest),
        (_, 1) => {
            if let Ok(known) = checkpoint::read(rest) {
                let mut again = Vec::new();
                let pages = |out: &mut Vec<u8>| out.extend(known.pages.concat());
                let holds = |out: &mut Vec<u8>| out.extend_from_slice(known.holds);
                let tasks = known.tasks.into_iter();
                checkpoint::write(known.written_s, &known.writers, pages, tasks, holds, &mut again);
                // Files of before are written as those of today, with nothing held.
                assert!(again == rest || rest.starts_with(b"OUTNOTE1"));
                let now = Now::default();
                if let Ok(read) = Holds::read(known.holds, now) {
                    let (mut once, mut twice) = (Vec::new(), Vec::new());
                    read.write(&mut once);
                    Holds::read(&once, now).expect("what was written").write(&mut twice);
                    assert_eq!(once, twice);
                }
            }
        }
        (_, 2) => {
            if let Ok(notice) = Notice::decode(rest) {
                let mut again = Vec::new();
                notice.encode(&mut again);
                assert_eq!(again, rest);
            }
        }
        (_, _) => {
            if let Ok(told) = Told::decode(rest) {
                let mut again = Vec::new();
                told.encode(&mut again);
                assert_eq!(again, rest);
            }
        }
    }
}

/// A bid's URL, with what notices fill in: it leads to a host that is named, or nowhere, and stays within one request line.
fn led(data: &[u8]) {
    let hosts = [
        (false, "dsp.example", 80),
        (false, "127.0.0.1", 8080),
        (false, "::1", 80),
        (true, "dsp.example", 443),
        (true, "::1", 8443),
    ]
    .map(|(secure, name, port)| Host { secure, name: name.to_owned(), port });
    let (said, url) = data.split_at(data.len().min(8));
    if target(url, &hosts).is_err() {
        return;
    }
    let later = Later { price: Cpm(1_250_000), loss: said, min_to_win: said, wall_ms: 17, seal: None };
    let mut filled = Vec::new();
    fill_later(url, &later, &mut filled);
    match target(&filled, &hosts) {
        Ok(found) => {
            let Host { secure, name, port } = &hosts[found.host];
            let scheme = String::from_utf8_lossy(&filled[..found.authority]).to_ascii_lowercase();
            assert_eq!(scheme, if *secure { "https://" } else { "http://" });
            let written = String::from_utf8_lossy(&filled[found.authority..found.path]).to_ascii_lowercase();
            let plain = [name.clone(), format!("[{name}]")];
            assert!(plain.iter().any(|n| written == *n || written == format!("{n}:{port}")), "{written}");
        }
        // What was filled in made it longer; it can have no character that the URL could not have.
        Err(why) => assert_eq!(why, Uncarried::TooLong),
    }
    assert!(filled.iter().all(u8::is_ascii_graphic));
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
        awaited: ids[6] % 4 > 1,
        expires_s: (n >> 16) as u32,
        buyer: b"",
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
