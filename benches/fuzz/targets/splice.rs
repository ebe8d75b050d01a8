//! What a DSP sees of a request: JSON in which everything that we do not know stands as it came, byte for byte and in its
//! order, and the rest is what a twin that edits lists of members makes of it.
use super::node::{Kind, Node};
use outcry::{
    config::{BuyerUid, SchainNode},
    limits::JSON_DEPTH_MAX,
    openrtb::{
        request::Request,
        splice::{Edits, SpliceError, prepare_schain_node, splice},
    },
    units::Currency,
};

const SEATS: [&str; 2] = ["a", "\"c\""];
const NAMES: [&str; 2] = ["one", "two"];

/// Two bytes choose what the DSP may see; the rest is the request.
pub fn check(data: &[u8]) {
    let Some((&[choice, imps], body)) = data.split_first_chunk::<2>() else { return };
    let mut request = Request::default();
    if request.parse(body, 0, &Default::default()).is_err() {
        return;
    }
    let bit = |n: u8| choice >> n & 1 == 1;
    let seats: Vec<String> = SEATS.iter().map(|&s| s.to_owned()).collect();
    let node = prepare_schain_node(&SchainNode {
        asi: "us.example".into(),
        sid: "7\"\\\u{1}".into(),
        name: bit(6).then(|| "n".into()),
        domain: None,
    });
    let edits = Edits {
        tmax_ms: u32::from(imps) * 257,
        dsp_name: NAMES[usize::from(bit(0))],
        wseat: if bit(1) { &seats } else { &[] },
        cur: if bit(2) { &[Currency(*b"EUR"), Currency::USD] } else { &[] },
        buyeruid: if bit(3) { BuyerUid::Map } else { BuyerUid::Request },
        schain_node: bit(4).then_some(&node),
        imps: if bit(5) { u64::MAX } else { u64::from(imps) },
    };
    let root = Node::read(body, JSON_DEPTH_MAX).unwrap_or_else(|e| panic!("a request that is no JSON: {e:?}"));
    let mut out = b"before".to_vec();
    let done = splice(&request, body, &edits, &mut out);
    let want = match twin(&root, &edits) {
        Ok(want) => want,
        Err(e) => return assert_eq!((done, &out[..]), (Err(e), &b"before"[..])),
    };
    assert_eq!(done, Ok(()));
    assert_eq!(out[..6], *b"before");
    let got = Node::read(&out[6..], JSON_DEPTH_MAX).unwrap_or_else(|e| panic!("{e:?}: {}", shown(&out)));
    assert_eq!(said(&got, ""), want, "{}", shown(&out));

    // A request again, where it stands, and with nothing of others in it.
    request.parse(&out, 6, &Default::default()).unwrap_or_else(|e| panic!("{e:?}: {}", shown(&out)));
    assert_eq!(request.tmax_ms, Some(edits.tmax_ms));
    assert!(request.buyeruids.is_empty());
    // What was told once is told again in the same bytes.
    let again = Edits { imps: u64::MAX, schain_node: None, buyeruid: BuyerUid::Request, ..edits };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    assert_eq!(splice(&request, &out, &again, &mut once), Ok(()));
    request.parse(&once, 0, &Default::default()).unwrap_or_else(|e| panic!("{e:?}: {}", shown(&once)));
    assert_eq!(splice(&request, &once, &again, &mut twice), Ok(()));
    assert!(once == twice, "{}\n{}", shown(&once), shown(&twice));
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A value of the twin's: what is never edited is its text, the rest its parts.
#[derive(Clone, PartialEq, Debug)]
enum Said {
    Raw(String),
    List(Vec<Said>),
    Object(Members),
}

/// In their order; keys by what they say.
type Members = Vec<(String, Said)>;

/// The objects and lists of which parts are edited.
const OPEN: [&str; 16] = [
    "",
    ".imp",
    ".wseat",
    ".cur",
    ".source",
    ".source.schain",
    ".source.schain.nodes",
    ".source.ext",
    ".source.ext.schain",
    ".source.ext.schain.nodes",
    ".ext",
    ".ext.schain",
    ".ext.schain.nodes",
    ".user",
    ".user.ext",
    ".user.ext.prebid",
];

fn said(node: &Node<'_>, path: &str) -> Said {
    match &node.kind {
        Kind::Object(members) if OPEN.contains(&path) => {
            let member = |(k, v): &(String, Node<'_>)| (k.clone(), said(v, &format!("{path}.{k}")));
            Said::Object(members.iter().map(member).collect())
        }
        Kind::List(items) if OPEN.contains(&path) => Said::List(items.iter().map(|v| raw(v.raw)).collect()),
        _ => raw(node.raw),
    }
}

fn raw(text: &str) -> Said {
    Said::Raw(text.into())
}

/// The strings of a list of the request's, as they are written and as they read.
fn strings<'n>(root: &'n Node<'_>, path: &[&str]) -> Vec<(&'n str, &'n str)> {
    let items = root.at(path).and_then(Node::items).unwrap_or_default();
    items.iter().filter_map(|v| Some((v.raw, v.text()?))).collect()
}

/// The edit, without caring for places in a text.
fn twin(root: &Node<'_>, edits: &Edits<'_>) -> Result<Said, SpliceError> {
    let Said::Object(mut top) = said(root, "") else { panic!("a request is an object") };
    // What the request lacks comes in front, in this order.
    let mut lacking = Members::new();
    let mut set = |top: &mut Members, key: &str, value: Said| match member(top, key) {
        Some(old) => *old = value,
        None => lacking.push((key.into(), value)),
    };
    set(&mut top, "tmax", raw(&edits.tmax_ms.to_string()));
    let (allowed, blocked) = (strings(root, &["wseat"]), strings(root, &["bseat"]));
    if !edits.wseat.is_empty() && !allowed.is_empty() {
        let common = allowed.iter().filter(|(_, seat)| edits.wseat.iter().any(|own| own == seat));
        let common: Vec<Said> = common.map(|(written, _)| raw(written)).collect();
        if common.is_empty() {
            return Err(SpliceError::NoSeats);
        }
        set(&mut top, "wseat", Said::List(common));
    } else if !edits.wseat.is_empty() && blocked.is_empty() {
        let own = edits.wseat.iter().map(|seat| raw(&serde_json::to_string(seat).expect("a string")));
        set(&mut top, "wseat", Said::List(own.collect()));
    }
    if !edits.cur.is_empty() {
        set(&mut top, "cur", Said::List(edits.cur.iter().map(|c| raw(&format!("\"{}\"", c.as_str()))).collect()));
    }
    if let Some(Said::List(imps)) = member(&mut top, "imp") {
        let mut at = 0;
        imps.retain(|_| {
            at += 1;
            edits.imps >> (at - 1) & 1 == 1
        });
        if imps.is_empty() {
            return Err(SpliceError::NoImps);
        }
    }
    if let Some(source) = chain(&mut top, edits.schain_node) {
        set(&mut top, "source", source);
    }
    if let Some(user) = user(&mut top, root, edits) {
        set(&mut top, "user", user);
    }
    lacking.append(&mut top);
    Ok(Said::Object(lacking))
}

fn member<'m>(members: &'m mut Members, key: &str) -> Option<&'m mut Said> {
    members.iter_mut().find(|(k, _)| k == key).map(|(_, v)| v)
}

fn object<'m>(members: &'m mut Members, path: &[&str]) -> Option<&'m mut Members> {
    path.iter().try_fold(members, |members, key| match member(members, key)? {
        Said::Object(inner) => Some(inner),
        _ => None,
    })
}

/// The newest place of a chain counts, the others go. Returns the `source` that is missing.
fn chain(top: &mut Members, node: Option<&[u8]>) -> Option<Said> {
    let node = node.map(|n| raw(std::str::from_utf8(n).expect("UTF-8")));
    let mut found = false;
    for place in [&["source"][..], &["source", "ext"], &["ext"]] {
        let Some(holder) = object(top, place) else { continue };
        let Some(at) = holder.iter().position(|(k, _)| k == "schain") else { continue };
        let kept = if found { None } else { node.clone() };
        found = true;
        match (kept, &mut holder[at].1) {
            (None, _) => drop(holder.remove(at)),
            (Some(node), old) => {
                let nodes = if let Said::Object(chain) = old { member(chain, "nodes") } else { None };
                match nodes {
                    Some(Said::List(nodes)) => nodes.push(node),
                    _ => *old = fresh(node),
                }
            }
        }
    }
    let node = node.filter(|_| !found)?;
    let schain = ("schain".to_owned(), fresh(node));
    match object(top, &["source"]) {
        Some(source) => source.insert(0, schain),
        None => return Some(Said::Object(vec![schain])),
    }
    None
}

fn fresh(node: Said) -> Said {
    let members = [("complete", raw("0")), ("ver", raw("\"1.0\"")), ("nodes", Said::List(vec![node]))];
    Said::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

/// The id that this DSP knows the user by, and no map of other DSPs' ids. Returns the `user` that is missing.
fn user(top: &mut Members, root: &Node<'_>, edits: &Edits<'_>) -> Option<Said> {
    let mut id = None;
    for place in [&["user", "ext", "prebid"][..], &["user", "ext"]] {
        if let Some(holder) = object(top, place) {
            holder.retain(|(k, _)| k != "buyeruids");
        }
        let map = root.at(place).and_then(|holder| holder.get("buyeruids")).and_then(Node::members);
        let mut own = map
            .unwrap_or_default()
            .iter()
            .filter(|(k, v)| k == edits.dsp_name && v.text().is_some_and(|s| !s.is_empty()));
        id = id.or(own.next().map(|(_, v)| raw(v.raw)));
    }
    let buyeruid = |id| ("buyeruid".to_owned(), id);
    match (object(top, &["user"]), id) {
        (None, None) => {}
        (None, Some(id)) => return Some(Said::Object(vec![buyeruid(id)])),
        (Some(user), Some(id)) => match member(user, "buyeruid") {
            Some(old) => *old = id,
            None => user.insert(0, buyeruid(id)),
        },
        (Some(user), None) => {
            let told = root.at(&["user", "buyeruid"]).and_then(Node::text).is_some_and(|s| !s.is_empty());
            if edits.buyeruid == BuyerUid::Map || !told {
                user.retain(|(k, _)| k != "buyeruid");
            }
        }
    }
    None
}
