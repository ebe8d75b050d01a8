//! A third opinion on JSON: `simd-json`, which shares no line with `serde_json` nor with us.
use crate::node::{Kind, Node, Trouble};
use serde_json::value::RawValue;
use simd_json::{BorrowedValue, StaticNode};

/// Compares what `serde_json` made of a text with what `simd-json` makes of it.
pub fn check(text: &[u8], node: &Result<Node<'_>, Trouble>) {
    let mut copy = text.to_vec();
    match (node, simd_json::to_borrowed_value(&mut copy)) {
        (Ok(node), Ok(value)) => same(node, &value),
        (Ok(node), Err(e)) => assert!(out_of_range(node), "simd-json refuses: {e}"),
        (Err(Trouble::NotJson), Ok(_)) => assert!(behind_a_scalar(text), "simd-json takes it for JSON"),
        // Half a pair and depth: known differences, on which ours is compared with serde_json alone.
        (Err(_), _) => {}
    }
}

/// Is what `serde_json` refuses a byte directly behind a number or a literal? There `simd-json` does not always look: to
/// version 0.17.3 `0.3333333333333333333333.0` is a number, and a vertical tab behind `true` is no fault.
fn behind_a_scalar(text: &[u8]) -> bool {
    let Err(e) = serde_json::from_slice::<&RawValue>(text) else { return false };
    let line = text.split_inclusive(|&b| b == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len).sum::<usize>();
    let at = line + e.column().saturating_sub(1);
    text.get(at.saturating_sub(1)..text.len().min(at + 1))
        .is_some_and(|near| near.iter().any(u8::is_ascii_alphanumeric))
}

/// A number that `simd-json` has no type for.
fn out_of_range(node: &Node<'_>) -> bool {
    match &node.kind {
        Kind::Number => {
            let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
            let exponent = node.raw.split_once(['e', 'E']).map_or(0, |(_, exponent)| digits(exponent));
            digits(node.raw) > 18 || exponent > 3 || node.raw.parse::<f64>().is_ok_and(f64::is_infinite)
        }
        Kind::List(items) => items.iter().any(out_of_range),
        Kind::Object(members) => members.iter().any(|(_, v)| out_of_range(v)),
        _ => false,
    }
}

fn same(node: &Node<'_>, value: &BorrowedValue<'_>) {
    match (&node.kind, value) {
        (Kind::Null, BorrowedValue::Static(StaticNode::Null)) => {}
        (Kind::Bool, BorrowedValue::Static(StaticNode::Bool(b))) => assert_eq!(node.raw, b.to_string()),
        (Kind::Number, BorrowedValue::Static(number)) => {
            let close = match number {
                StaticNode::I64(n) => node.raw == n.to_string() || (*n == 0 && node.raw == "-0"),
                StaticNode::U64(n) => node.raw == n.to_string(),
                StaticNode::F64(n) => node.raw.parse::<f64>().is_ok_and(|want| (want - n).abs() <= want.abs() * 1e-15),
                _ => false,
            };
            assert!(close, "{} is {number:?} to simd-json", node.raw);
        }
        (Kind::Text(text), BorrowedValue::String(theirs)) => assert_eq!(text, theirs),
        (Kind::List(items), BorrowedValue::Array(theirs)) => {
            assert_eq!(items.len(), theirs.len());
            items.iter().zip(theirs.iter()).for_each(|(ours, theirs)| same(ours, theirs));
        }
        (Kind::Object(members), BorrowedValue::Object(theirs)) => {
            for (key, value) in members {
                // Which one of several it shows depends on how many members there are.
                if members.iter().filter(|(k, _)| k == key).count() == 1 {
                    same(value, theirs.get(key.as_str()).unwrap_or_else(|| panic!("simd-json has no {key:?}")));
                }
            }
        }
        (kind, theirs) => panic!("{kind:?} is {theirs:?} to simd-json"),
    }
}
