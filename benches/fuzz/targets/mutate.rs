//! JSON made wrong by its grammar: what a parser meets when a sender, a proxy or an attacker has other ideas of JSON.
//! A text is taken apart, changed in a few places, and written anew; now and then its bytes are damaged as well. The same
//! seed makes the same text.
use crate::node::{Kind, Node};
use outcry::units::mix;

/// Repeatable draws.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Draw {
        Draw(mix(seed ^ 0x6f75_7463_7279))
    }

    /// Below `n`; 0 for 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        if n == 0 { 0 } else { (mix(self.0) % n as u64) as usize }
    }

    /// Once in `n`.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Numbers as they can be written, and as they must not be.
const NUMBERS: [&str; 24] = [
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "1e0",
    "10e-1",
    "0.1E+1",
    "1E400",
    "-1e400",
    "1e-400",
    "0e999999999999999999999",
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "0.0000001",
    "1000000.0000001",
    "0.3333333333333333333333",
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
];

/// What may stand where something else should.
const OTHERS: [&str; 16] = [
    "null",
    "true",
    "false",
    "\"\"",
    "\"1\"",
    "\" 1.50 \"",
    "\"EUR\"",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "{\"id\":null}",
    "nul",
    "True",
    "NaN",
    "'x'",
];

/// Characters as escapes: of one, of a pair, of half a pair, of nothing.
const ESCAPES: [&str; 16] = [
    "\\u0041",
    "\\u00e9",
    "\\u20AC",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\u001f",
    "\\/",
    "\\\"",
    "\\\\",
    "\\n",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\u0041",
    "\\x41",
    "\\u12g4",
    "\\",
];

const KEYS: [&str; 24] = [
    "id",
    "imp",
    "tmax",
    "cur",
    "wseat",
    "bseat",
    "bidfloor",
    "bidfloorcur",
    "ext",
    "schain",
    "nodes",
    "user",
    "buyeruid",
    "buyeruids",
    "prebid",
    "seatbid",
    "bid",
    "price",
    "seat",
    "group",
    "w",
    "h",
    "mimes",
    "regs",
];

const SPACES: [&str; 6] = ["", "", "", " ", "\r\n\t", "\n        "];

/// A value to be changed: texts stand as they are written, quotes and all.
#[derive(Clone, Debug)]
enum Tree {
    Plain(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn of(node: &Node<'_>) -> Tree {
        match &node.kind {
            Kind::List(items) => Tree::List(items.iter().map(Tree::of).collect()),
            Kind::Object(members) => Tree::Object(members.iter().map(|(k, v)| (quoted(k), Tree::of(v))).collect()),
            _ => Tree::Plain(node.raw.into()),
        }
    }

    fn count(&self) -> usize {
        1 + match self {
            Tree::Plain(_) => 0,
            Tree::List(items) => items.iter().map(Tree::count).sum(),
            Tree::Object(members) => members.iter().map(|(_, v)| v.count()).sum(),
        }
    }

    /// The value that is number `n`, counted from the outside in.
    fn nth(&mut self, n: &mut usize) -> Option<&mut Tree> {
        if *n == 0 {
            return Some(self);
        }
        *n -= 1;
        match self {
            Tree::Plain(_) => None,
            Tree::List(items) => items.iter_mut().find_map(|v| v.nth(n)),
            Tree::Object(members) => members.iter_mut().find_map(|(_, v)| v.nth(n)),
        }
    }

    fn write(&self, space: &str, out: &mut Vec<u8>) {
        let spaced = |out: &mut Vec<u8>, text: &str| {
            for part in [space, text, space] {
                out.extend_from_slice(part.as_bytes());
            }
        };
        match self {
            Tree::Plain(text) => spaced(out, text),
            Tree::List(items) => {
                spaced(out, "[");
                for (i, item) in items.iter().enumerate() {
                    out.extend_from_slice(if i > 0 { b"," } else { b"" });
                    item.write(space, out);
                }
                spaced(out, "]");
            }
            Tree::Object(members) => {
                spaced(out, "{");
                for (i, (key, value)) in members.iter().enumerate() {
                    out.extend_from_slice(if i > 0 { b"," } else { b"" });
                    spaced(out, key);
                    out.push(b':');
                    value.write(space, out);
                }
                spaced(out, "}");
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

/// `text` with a few changes; as it is, damaged, where it is not JSON to begin with.
pub fn mutate(text: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    match Node::read(text, 128) {
        Ok(node) => {
            let mut tree = Tree::of(&node);
            for _ in 0..1 + draw.below(3) {
                change(&mut tree, draw);
            }
            let space = draw.of(&SPACES);
            tree.write(space, &mut out);
        }
        Err(_) => out.extend_from_slice(text),
    }
    if draw.once_in(6) {
        damage(&mut out, draw);
    }
    out
}

fn change(tree: &mut Tree, draw: &mut Draw) {
    let mut at = draw.below(tree.count());
    // A part of the whole to put elsewhere: an impression into a list of impressions, or where none belongs.
    let part = draw.once_in(12).then(|| tree.nth(&mut draw.below(tree.count())).cloned()).flatten();
    let Some(place) = tree.nth(&mut at) else { return };
    if let Some(part) = part {
        *place = part;
        return;
    }
    match draw.below(16) {
        0 | 1 => *place = Tree::Plain(draw.of(&OTHERS).into()),
        2 => *place = Tree::Plain(draw.of(&NUMBERS).into()),
        3 => nest(place, draw),
        _ => match place {
            Tree::Plain(text) if text.starts_with('"') => change_text(text, draw),
            Tree::Plain(text) => change_number(text, draw),
            Tree::List(items) => change_list(items, draw),
            Tree::Object(members) => change_object(members, draw),
        },
    }
}

/// Around and beyond the depth that is followed.
fn nest(place: &mut Tree, draw: &mut Draw) {
    let levels = draw.of(&[1, 2, 8, 54, 60, 64, 65, 126, 200]);
    for _ in 0..levels {
        let inner = std::mem::replace(place, Tree::List(Vec::new()));
        *place = if draw.once_in(2) { Tree::List(vec![inner]) } else { Tree::Object(vec![("\"x\"".into(), inner)]) };
    }
}

fn change_text(text: &mut String, draw: &mut Draw) {
    // Somewhere inside of the quotes, not within an escape: those stay what they are unless one is put in front of it.
    let inside = text.get(1..text.len() - 1).unwrap_or("");
    let places: Vec<usize> = inside.char_indices().map(|(i, _)| i + 1).chain([text.len() - 1]).collect();
    let at = draw.of(&places);
    match draw.below(5) {
        0 => *text = "\"\"".into(),
        1 => text.insert(at, draw.of(&['\u{1f600}', '\u{e9}', '\n', '\u{7f}', '\u{1}', 'x'])),
        2 => text.insert_str(at, &"y".repeat(draw.below(300))),
        // One of its own characters in another spelling.
        3 => {
            if let Some(c) = text[at..].chars().next().filter(|c| c.is_ascii_alphanumeric() && !text.contains('\\')) {
                text.replace_range(at..=at, &format!("\\u{:04x}", c as u32));
            }
        }
        _ => text.insert_str(at, draw.of(&ESCAPES)),
    }
}

fn change_number(text: &mut String, draw: &mut Draw) {
    match draw.below(8) {
        0 => text.push_str(".0"),
        1 => text.push_str("e0"),
        2 => text.insert(0, '-'),
        3 => text.insert(0, '0'),
        4 => text.push_str(&"0".repeat(draw.below(40))),
        5 => *text = format!("\"{text}\""),
        6 => text.push_str(draw.of(&["E+2", "e-2", ".5", ".0000004", "x"])),
        _ => *text = draw.of(&NUMBERS).into(),
    }
}

fn change_list(items: &mut Vec<Tree>, draw: &mut Draw) {
    let at = draw.below(items.len());
    match draw.below(5) {
        0 => items.clear(),
        1 if !items.is_empty() => drop(items.remove(at)),
        2 if !items.is_empty() => items.swap(0, at),
        // As often as some limit of ours allows, and more often.
        3 => {
            if let Some(item) = items.get(at).cloned() {
                let times = draw.of(&[1, 2, 63, 64, 65, 257]);
                items.extend(std::iter::repeat_n(item, times));
            }
        }
        _ => items.insert(at, Tree::Plain(draw.of(&OTHERS).into())),
    }
}

fn change_object(members: &mut Vec<(String, Tree)>, draw: &mut Draw) {
    let at = draw.below(members.len());
    match draw.below(7) {
        0 => members.clear(),
        1 if !members.is_empty() => drop(members.remove(at)),
        2 => {
            for i in (1..members.len()).rev() {
                members.swap(i, draw.below(i + 1));
            }
        }
        // Twice: the same, another value, another spelling of the key.
        3 if !members.is_empty() => {
            let (mut key, mut value) = members[at].clone();
            if draw.once_in(2) {
                value = Tree::Plain(draw.of(&OTHERS).into());
            }
            if draw.once_in(2) {
                change_text(&mut key, draw);
            }
            let to = draw.below(members.len() + 1);
            members.insert(to, (key, value));
        }
        4 if !members.is_empty() => change_text(&mut members[at].0, draw),
        5 if !members.is_empty() => members[at].0 = quoted(draw.of(&KEYS)),
        _ => {
            let value = if draw.once_in(2) { draw.of(&NUMBERS) } else { draw.of(&OTHERS) };
            members.insert(at, (quoted(draw.of(&KEYS)), Tree::Plain(value.into())));
        }
    }
}

/// Bytes that no grammar has.
fn damage(out: &mut Vec<u8>, draw: &mut Draw) {
    let at = draw.below(out.len() + 1);
    match draw.below(6) {
        0 => out.truncate(at),
        1 => out.extend_from_slice(draw.of(&[&b" "[..], b"\n\n", b"x", b"\0", b",", b"}", b"{}", b"\xff"])),
        2 => drop(out.splice(0..0, *b"\xef\xbb\xbf")),
        3 => {
            let bytes: &[u8] =
                draw.of(&[&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\0"]);
            drop(out.splice(at..at, bytes.iter().copied()));
        }
        4 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << draw.below(8);
            }
        }
        _ => out.insert(at, draw.of(b"\"\\{}[],:0-.e \x0b\x0c")),
    }
}

/// For a fuzzer: changes the JSON behind the `choices` in `data[..size]`, every other time and where the result fits;
/// returns the new size. None: nothing was changed, and the fuzzer may do as it likes.
pub fn in_place(data: &mut [u8], size: usize, choices: usize, seed: u32) -> Option<usize> {
    let mut draw = Draw::new(u64::from(seed));
    if draw.once_in(2) {
        return None;
    }
    let body = data.get(choices..size)?;
    Node::read(body, usize::MAX).ok()?;
    let body = mutate(body, &mut draw);
    let place = data.get_mut(choices..choices + body.len())?;
    place.copy_from_slice(&body);
    Some(choices + body.len())
}
