//! JSON against serde_json and against tables.
use super::*;
use proptest::prelude::*;
use serde_json::Value;

/// Our reading as serde_json would hold it.
fn value(c: &mut Cursor) -> Result<Value, Error> {
    Ok(match c.peek() {
        b'{' => {
            c.enter()?;
            let (mut first, mut map) = (true, serde_json::Map::new());
            while let Some(key) = c.key(&mut first)? {
                let name = String::from_utf8(key.text.bytes(c.buf()).collect()).unwrap();
                let v = value(c)?;
                map.insert(name, v);
            }
            Value::Object(map)
        }
        b'[' => {
            c.enter()?;
            let (mut first, mut all) = (true, vec![]);
            while c.element(&mut first)? {
                all.push(value(c)?);
            }
            Value::Array(all)
        }
        b'"' => {
            let text = c.string()?;
            let (arena, slowly) = (bumpalo::Bump::new(), text.bytes(c.buf()).collect::<Vec<_>>());
            let mut out = bumpalo::collections::Vec::new_in(&arena);
            unescape(text, c.buf(), &mut out);
            let out = out.to_vec();
            assert_eq!(out, slowly);
            Value::String(String::from_utf8(out).unwrap())
        }
        b'-' | b'0'..=b'9' => {
            Value::Number(serde_json::Number::from_string_unchecked(String::from_utf8(c.number()?.to_vec()).unwrap()))
        }
        _ => {
            let span = c.skip_span()?;
            serde_json::from_slice(span.of(c.buf())).unwrap()
        }
    })
}

fn read(text: &[u8]) -> Result<Value, Error> {
    let mut c = Cursor::new(text, 0)?;
    let v = value(&mut c)?;
    c.finish()?;
    Ok(v)
}

fn skipped(text: &[u8]) -> Result<(), Error> {
    let mut c = Cursor::new(text, 0)?;
    c.skip()?;
    c.finish()
}

/// Ours and serde_json's must agree, read or skipped. Only depth differs (theirs is 128), which generated texts
/// do not reach.
fn check(text: &[u8]) {
    let theirs = serde_json::from_slice::<Value>(text).ok();
    let shown = String::from_utf8_lossy(text);
    assert_eq!(skipped(text).is_ok(), theirs.is_some(), "skipped {shown}");
    // serde_json keeps an exponent as `e+5` where it was written `E5`, so numbers compare as it prints them.
    let ours = read(text).ok().map(|v| v.to_string());
    match (&ours, &theirs) {
        (Some(o), Some(t)) => assert_eq!(serde_json::from_str::<Value>(o).unwrap(), *t, "{shown}"),
        (o, t) => assert_eq!(o.is_some(), t.is_some(), "{shown}"),
    }
}

#[test]
fn what_is_refused_and_where() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let (deepest, deeper) = (deep(JSON_DEPTH_MAX), deep(JSON_DEPTH_MAX + 1));
    type Want = Result<(), (u32, Why)>;
    let rows: &[(&[u8], Want)] = &[
        (b" {\"a\" : [1 , -0.5e+3,\ttrue,false,null,\"\"]}\r\n", Ok(())),
        (deepest.as_bytes(), Ok(())),
        (deeper.as_bytes(), Err((64, Why::Depth))),
        (b"", Err((0, Why::End))),
        (b"  ", Err((2, Why::End))),
        (b"{} x", Err((3, Why::Trailing))),
        (b"{}{}", Err((2, Why::Trailing))),
        (b"\xef\xbb\xbf{}", Err((0, Why::Value))),
        (b"\"\xff\"", Err((1, Why::Utf8))),
        (b"\"\xed\xa0\x80\"", Err((1, Why::Utf8))),
        (b"\"\xc0\x80\"", Err((1, Why::Utf8))),
        (b"NaN", Err((0, Why::Value))),
        (b"-Infinity", Err((1, Why::Number))),
        (b"nul", Err((0, Why::Value))),
        (b"01", Err((1, Why::Trailing))),
        (b"[01]", Err((2, Why::Comma))),
        (b"1.", Err((2, Why::End))),
        (b"[1.]", Err((3, Why::Number))),
        (b"[1e]", Err((3, Why::Number))),
        (b"[1e+]", Err((4, Why::Number))),
        (b"[.5]", Err((1, Why::Value))),
        (b"[+1]", Err((1, Why::Value))),
        (b"[-]", Err((2, Why::Number))),
        (b"[1,]", Err((3, Why::Value))),
        (b"[,1]", Err((1, Why::Value))),
        (b"[1 2]", Err((3, Why::Comma))),
        (b"[1}", Err((2, Why::Comma))),
        (b"{\"a\":1,}", Err((7, Why::Key))),
        (b"{\"a\" 1}", Err((5, Why::Colon))),
        (b"{a:1}", Err((1, Why::Key))),
        (b"{1:1}", Err((1, Why::Key))),
        (b"{\"a\":}", Err((5, Why::Value))),
        (b"{\"a\":1", Err((6, Why::End))),
        (b"\"abc", Err((4, Why::End))),
        (b"\"a\\", Err((3, Why::End))),
        (b"\"a\nb\"", Err((2, Why::Control))),
        (b"\"a\0b\"", Err((2, Why::Control))),
        (b"\"a\\u0000b\"", Ok(())),
        (b"\"\\x\"", Err((2, Why::Escape))),
        (b"\"\\u12g4\"", Err((1, Why::Escape))),
        (b"\"\\ud83d\\ude00\"", Ok(())),
        (b"\"\\ud83d\"", Err((1, Why::Surrogate))),
        (b"\"\\ude00\"", Err((1, Why::Surrogate))),
        (b"\"\\ud83dx\\ude00\"", Err((1, Why::Surrogate))),
        (b"\"\\ud83d\\ud83d\"", Err((1, Why::Surrogate))),
        ("\"\u{7f}\u{80}\u{2028}\u{1f600}\"".as_bytes(), Ok(())),
    ];
    for (text, want) in rows {
        let shown = String::from_utf8_lossy(text);
        assert_eq!(skipped(text).map_err(|e| (e.at, e.why)), *want, "skipped {shown}");
        assert_eq!(read(text).map(drop).map_err(|e| (e.at, e.why)), *want, "read {shown}");
        if text != &deepest.as_bytes() && text != &deeper.as_bytes() {
            check(text);
        }
    }
}

#[test]
fn integers_are_read_exactly() {
    let rows: &[(&str, Option<i64>)] = &[
        ("0", Some(0)),
        ("-0", Some(0)),
        ("-0.0", Some(0)),
        ("7", Some(7)),
        ("-7", Some(-7)),
        ("300.0", Some(300)),
        ("300.5", None),
        ("3e2", Some(300)),
        ("3.25e2", Some(325)),
        ("3.256e2", None),
        ("300e-2", Some(3)),
        ("301e-2", None),
        ("1e-999999999999999999999", None),
        ("0e999999999999999999999", Some(0)),
        ("1e999", Some(i64::MAX)),
        ("-1E+999", Some(i64::MIN)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("12345678901234567890", Some(i64::MAX)),
        ("-12345678901234567890", Some(i64::MIN)),
        ("100000000000000000000e-18", Some(100)),
    ];
    for (text, want) in rows {
        assert_eq!(integer(text.as_bytes()), *want, "{text}");
    }
}

#[test]
fn keys_are_known_however_they_are_written() {
    for (text, want) in [
        (r#"{"id":1}"#, pack("id")),
        (r#"{"\u0069d":1,"and something":"behind it"}"#, pack("id")),
        (r#"{"private_auction":1}"#, pack("private_auction")),
        (r#"{"sixteen_bytes_16":1,"x":"behind it, so that sixteen can be read"}"#, pack("sixteen_bytes_16")),
        (r#"{"sixteen_bytes_167":1}"#, (0, 0)),
        (r#"{"id\u0000":1,"and something":"behind it"}"#, (0, 0)),
        (r#"{"":1}"#, (0, 0)),
    ] {
        let mut c = Cursor::new(text.as_bytes(), 0).unwrap();
        c.peek();
        c.enter().unwrap();
        assert_eq!(c.key(&mut true).unwrap().unwrap().packed, want, "{text}");
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (any::<i32>(), -30..30i32).prop_map(|(m, e)| serde_json::from_str(&format!("{m}.25e{e}")).unwrap()),
        "[ -~]{0,40}".prop_map(Value::from),
        "[\\x00-\\x22\\x5c\u{e9}\u{1f600}]{0,20}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec(("[a-z\"\\\\]{0,20}", inner), 0..8)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn reads_as_serde_json_does(v in json(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&v) } else { serde_json::to_vec(&v) }.unwrap();
        prop_assert!(read(&text).is_ok());
        check(&text);
    }

    #[test]
    fn refuses_what_serde_json_refuses(
        v in json(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(),
            prop::sample::select(&b"\"\\{}[],:0123456789eE+-.tfnu \n\x1f\xed\xa0"[..]),
        ], 0..3u8), 1..4),
        cut: prop::sample::Index,
        cutting: bool,
    ) {
        let mut text = serde_json::to_vec(&v).unwrap();
        for (at, byte, how) in edits {
            let i = at.index(text.len());
            match how {
                0 => text[i] = byte,
                1 => text.insert(i, byte),
                _ => { text.remove(i); text.insert(i, byte); text.insert(i, byte); }
            }
        }
        if cutting {
            text.truncate(cut.index(text.len()));
        }
        check(&text);
    }

    #[test]
    fn marks_point_at_the_first(word: [u8; 8], quotes: u8, backslashes: u8) {
        let mut word = word;
        for (i, b) in word.iter_mut().enumerate() {
            if quotes >> i & 1 == 1 { *b = b'"' } else if backslashes >> i & 1 == 1 { *b = b'\\' }
        }
        let found = marks(u64::from_le_bytes(word));
        let first = word.iter().position(|b| matches!(b, b'"' | b'\\'));
        prop_assert_eq!((found != 0).then(|| found.trailing_zeros() as usize / 8), first);
    }
}
