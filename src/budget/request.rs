//! An operation as JSON, as the admin port takes it.
//! Owns: its members. Called by: the admin port. Never: lets pass what it does not know: a slip must not be half an operation.
//!
//! ```json
//! {"account":"acme.summer","do":"set","daily":"250.50","hourly":null,"currency":"EUR","who":"ann"}
//! ```
use super::{
    manage::{Act, Changes, Operation},
    movement::By,
    tree::Pacing,
};
use crate::{
    config::suggest,
    json::{self, Cursor},
    limits,
    units::{Currency, Money, Round},
};

/// Why bytes are no operation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON.
    #[error("{0}")]
    Json(#[from] json::Error),
    /// A member that stands for nothing.
    #[error("unknown member \"{name}\"; allowed: {}", MEMBERS.join(", "))]
    Member {
        /// Which.
        name: String,
    },
    /// A member that is not what it has to be.
    #[error("\"{name}\" is not {allowed}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it may be.
        allowed: String,
    },
    /// A member that is needed and not there, or there twice.
    #[error("\"{0}\" has to be there once")]
    Once(&'static str),
}

const MEMBERS: [&str; 15] = [
    "account",
    "do",
    "who",
    "currency",
    "advertiser",
    "dsp",
    "seat",
    "cid",
    "daily",
    "hourly",
    "lifetime",
    "zone",
    "pacing",
    "amount",
    "of",
];

const DEEDS: [&str; 7] = ["add_advertiser", "add_campaign", "set", "top_up", "pause", "resume", "end"];

/// A member's value: a text, a number as it is written, or null.
enum Value {
    Text(String),
    Null,
}

/// Reads an operation.
///
/// # Errors
/// It is none, in words for who wrote it.
pub fn parse(body: &[u8]) -> Result<Operation, Unreadable> {
    let mut members = members(body)?;
    let mut take = |name: &'static str| members.iter().position(|m| m.0 == name).map(|at| members.swap_remove(at).1);
    let mut text = |name: &'static str| match take(name) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(Value::Null) => Err(Unreadable::Value { name, allowed: "a text".to_owned() }),
    };
    let account = text("account")?.ok_or(Unreadable::Once("account"))?;
    let deed = text("do")?.ok_or(Unreadable::Once("do"))?;
    let who = text("who")?.unwrap_or_default();
    let currency = text("currency")?.map(|code| {
        let wrong = || Unreadable::Value { name: "currency", allowed: "an ISO-4217 code such as \"USD\"".to_owned() };
        Currency::parse(code.as_bytes()).ok_or_else(wrong)
    });
    let currency = currency.transpose()?;
    let buyer = [text("advertiser")?, text("dsp")?, text("seat")?, text("cid")?];
    let zone = text("zone")?;
    let pacing = text("pacing")?.map(|word| match word.as_str() {
        "asap" => Ok(Pacing::Asap),
        "even" => Ok(Pacing::Even),
        _ => Err(Unreadable::Value { name: "pacing", allowed: "\"asap\" or \"even\"".to_owned() }),
    });
    let pacing = pacing.transpose()?;
    let of = text("of")?;
    let mut limit = |name: &'static str| match take(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::Text(digits)) => amount(name, &digits).map(|m| Some(Some(m))),
    };
    let one = |name: &'static str, given: Option<Option<Money>>| match given {
        Some(None) => Err(Unreadable::Value { name, allowed: "an amount".to_owned() }),
        Some(some) => Ok(some),
        None => Ok(None),
    };
    let daily = one("daily", limit("daily")?)?;
    let more = one("amount", limit("amount")?)?;
    let changes = Changes { daily, hourly: limit("hourly")?, lifetime: limit("lifetime")?, zone, pacing };
    let act = match deed.as_str() {
        "add_advertiser" => Act::AddAdvertiser(changes),
        "add_campaign" => {
            let [advertiser, dsp, seat, cid] = buyer;
            let advertiser = advertiser.ok_or(Unreadable::Once("advertiser"))?;
            let dsp = dsp.ok_or(Unreadable::Once("dsp"))?;
            let (seat, cid) = (seat.unwrap_or_default(), cid.unwrap_or_default());
            Act::AddCampaign { advertiser, dsp, seat, cid, changes }
        }
        "set" => Act::Set(changes),
        "top_up" => {
            let more = more.ok_or(Unreadable::Once("amount"))?;
            match of.as_deref() {
                Some("today") => Act::TopUpToday(more),
                Some("lifetime") => Act::TopUpLifetime(more),
                Some(_) => {
                    return Err(Unreadable::Value { name: "of", allowed: "\"today\" or \"lifetime\"".to_owned() });
                }
                None => return Err(Unreadable::Once("of")),
            }
        }
        "pause" => Act::Pause,
        "resume" => Act::Resume,
        "end" => Act::End,
        other => {
            let near = suggest::nearest(other, DEEDS).map_or(String::new(), |n| format!(", did you mean \"{n}\"?"));
            return Err(Unreadable::Value { name: "do", allowed: format!("one of {}{near}", DEEDS.join(", ")) });
        }
    };
    Ok(Operation { account, act, currency, who, by: By::Admin })
}

/// The members of the object that the body is, each once.
fn members(body: &[u8]) -> Result<Vec<(&'static str, Value)>, Unreadable> {
    let mut cursor = Cursor::new(body, 0)?;
    let mut out: Vec<(&'static str, Value)> = Vec::new();
    if cursor.peek() != b'{' {
        cursor.skip()?;
        return Err(Unreadable::Once("account"));
    }
    cursor.enter()?;
    let mut first = true;
    while let Some(key) = cursor.key(&mut first)? {
        let name: String = String::from_utf8_lossy(&key.text.bytes(body).collect::<Vec<u8>>()).into_owned();
        let Some(known) = MEMBERS.into_iter().find(|m| *m == name) else {
            let name = name.chars().take(limits::ACCOUNT_NAME_MAX).collect();
            return Err(Unreadable::Member { name });
        };
        if out.iter().any(|m| m.0 == known) {
            return Err(Unreadable::Once(known));
        }
        let value = match cursor.peek() {
            b'"' => {
                let text = cursor.string()?;
                Value::Text(String::from_utf8_lossy(&text.bytes(body).collect::<Vec<u8>>()).into_owned())
            }
            b'0'..=b'9' | b'-' => Value::Text(String::from_utf8_lossy(cursor.number()?).into_owned()),
            b'n' => {
                cursor.skip()?;
                Value::Null
            }
            _ => {
                cursor.skip()?;
                return Err(Unreadable::Value { name: known, allowed: "a text, a number or null".to_owned() });
            }
        };
        out.push((known, value));
    }
    cursor.finish()?;
    Ok(out)
}

/// An amount that loses nothing when it is read.
fn amount(name: &'static str, digits: &str) -> Result<Money, Unreadable> {
    let read = |round| Money::parse(digits.as_bytes(), round).ok();
    match (read(Round::Down), read(Round::Up)) {
        (Some(down), Some(up)) if down == up => Ok(down),
        _ => {
            let allowed = format!("an amount of 0 to {} with at most nine decimals", Money::MAX);
            Err(Unreadable::Value { name, allowed })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn operations_are_read() {
        let read = |json: &str| parse(json.as_bytes()).unwrap_or_else(|e| panic!("{json}: {e}"));
        let operation = read(
            r#"{"account":"a","do":"set","daily":"250.50","hourly":null,"lifetime":7e3,"currency":"eur","who":"\u00e4"}"#,
        );
        let changes = Changes {
            daily: Some(Money(250_500_000_000)),
            hourly: Some(None),
            lifetime: Some(Some(Money(7_000_000_000_000))),
            ..Changes::default()
        };
        assert_eq!((operation.act, operation.currency), (Act::Set(changes), Currency::parse(b"EUR")));
        assert_eq!((operation.account.as_str(), operation.who.as_str(), operation.by), ("a", "\u{e4}", By::Admin));
        let operation = read(
            r#"{"do":"add_campaign","account":"a","advertiser":"b","dsp":"d","cid":"c","pacing":"even","zone":"UTC"}"#,
        );
        let changes = Changes { pacing: Some(Pacing::Even), zone: Some("UTC".into()), ..Changes::default() };
        let [advertiser, dsp, seat, cid] = ["b", "d", "", "c"].map(str::to_owned);
        assert_eq!(operation.act, Act::AddCampaign { advertiser, dsp, seat, cid, changes });
        for (json, act) in [
            (r#"{"account":"a","do":"top_up","of":"today","amount":1}"#, Act::TopUpToday(Money(1_000_000_000))),
            (r#"{"account":"a","do":"top_up","of":"lifetime","amount":"1"}"#, Act::TopUpLifetime(Money(1_000_000_000))),
            (r#"{"account":"a","do":"pause"}"#, Act::Pause),
            (r#"{"account":"a","do":"resume"}"#, Act::Resume),
            (r#"{"account":"a","do":"end"}"#, Act::End),
        ] {
            assert_eq!(read(json).act, act, "{json}");
        }
    }

    #[test]
    fn what_is_none_is_told_in_words() {
        for (json, want) in [
            ("", "unexpected end of JSON at byte 0"),
            ("[]", "\"account\" has to be there once"),
            (r#"{"account":"a"}"#, "\"do\" has to be there once"),
            (r#"{"account":"a","account":"b"}"#, "\"account\" has to be there once"),
            (
                r#"{"account":"a","do":"puase"}"#,
                "\"do\" is not one of add_advertiser, add_campaign, set, top_up, pause, resume, end, did you mean \"pause\"?",
            ),
            (r#"{"account":"a","do":"set","dayly":1}"#, "unknown member \"dayly\"; allowed: account, do,"),
            (r#"{"account":"a","do":"set","daily":null}"#, "\"daily\" is not an amount"),
            (r#"{"account":"a","do":"set","daily":-1}"#, "\"daily\" is not an amount of 0 to 1000000000"),
            (r#"{"account":"a","do":"set","daily":0.0000000001}"#, "\"daily\" is not an amount of 0"),
            (r#"{"account":"a","do":"set","daily":[1]}"#, "\"daily\" is not a text, a number or null"),
            (r#"{"account":"a","do":"top_up","of":"today"}"#, "\"amount\" has to be there once"),
            (r#"{"account":"a","do":"pause"} x"#, "bytes after the JSON value at byte"),
        ] {
            let told = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(told.starts_with(want), "{json}: {told}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics(body: Vec<u8>, cut in 0..90usize) {
            let _ = parse(&body);
            let whole = br#"{"account":"a","do":"set","daily":"250.50","hourly":null,"lifetime":7e3,"currency":"eur"}"#;
            prop_assert!(parse(&whole[..cut.min(whole.len() - 1)]).is_err());
        }
    }
}
