//! A bid request as a view: accepted exactly when `serde_json` takes it for JSON and it breaks no rule, and then it says
//! what a reading by name finds.
use super::{
    node::{Kind, Node, Trouble, scaled, whole},
    rules::{self, broken},
};
use outcry::{
    gate::{self, Verdict},
    json::Why,
    limits::JSON_DEPTH_MAX,
    openrtb::{
        codes::Nbr,
        request::{Channel, Imp, ImpRefusal, Media, Request, Run, SchainPlace},
        text::{Span, Text},
        validate::{Fault, Field, REASON_BYTES_MAX, Refusal},
    },
    units::{Cpm, Currency, Multiplier},
};

/// The bytes are the body. What became of it is returned.
pub fn check(body: &[u8]) -> Result<(), Refusal> {
    let (mut request, arena) = (Request::default(), bumpalo::Bump::new());
    let read = request.parse(body, 0, &arena);
    match (read, Node::read(body, JSON_DEPTH_MAX)) {
        (Ok(()), Ok(node)) => {
            let broken = broken(&node);
            assert!(broken.is_empty(), "accepted: {broken:?}");
            compare(&request, body, &node);
            moved(&request, body);
        }
        (Ok(()), Err(trouble)) => panic!("accepted: {trouble:?}"),
        (Err(refusal), node) => refused(&refusal, body, node),
    }
    read
}

fn refused(refusal: &Refusal, body: &[u8], node: Result<Node<'_>, Trouble>) {
    let Refusal { rule, at, index } = *refusal;
    assert!(at as usize <= body.len());
    let mut reason = Vec::new();
    refusal.write_reason(&mut reason);
    assert!(reason.len() <= REASON_BYTES_MAX);
    Node::read(&reason, 1).expect("the reason is JSON");
    match (rule.fault, node) {
        // Where it went too deep or met half a character, what stands behind was not looked at.
        (Fault::NotJson(Why::Depth), node) => assert!(matches!(node, Err(Trouble::Depth | Trouble::NotJson))),
        (Fault::NotJson(Why::Surrogate), node) => assert!(node.is_err()),
        (Fault::NotJson(_), node) => assert_eq!(node.err(), Some(Trouble::NotJson), "to us {rule:?} at {at}"),
        // The first rule that is broken is named, whatever stands behind it.
        (_, Err(_)) => {}
        (fault, Ok(node)) => {
            let broken = broken(&node);
            let same = |&(field, also, place): &rules::Broken| {
                let whole = (field, also) == (rule.field, fault) && (place == index || fault == Fault::TooMany);
                // What a native request has wrong in front of where it stops being JSON.
                let inside = also == Fault::NotJsonInside && place[0] == index[0];
                whole || inside && rule.field.path().starts_with(Field::NativeRequest.path())
            };
            assert!(broken.iter().any(same), "refused for {rule:?} {index:?}, but broken are {broken:?}");
        }
    }
}

/// Read where it stands behind other bytes, and into a view that was used: nothing but places differs.
fn moved(request: &Request, body: &[u8]) {
    let mut used = request.clone();
    used.parse(body, 0, &Default::default()).expect("it was accepted");
    assert_eq!(format!("{used:?}"), format!("{request:?}"));
    let behind = [b"{\xff", body].concat();
    used.parse(&behind, 2, &Default::default()).expect("it was accepted");
    assert_eq!(used.whole.of(&behind), request.whole.of(body));
    assert_eq!(used.anchors.imp.of(&behind), request.anchors.imp.of(body));
    assert_eq!(used.texts.len(), request.texts.len());
}

struct Both<'a> {
    view: &'a Request,
    body: &'a [u8],
}

impl Both<'_> {
    fn text(&self, text: Text, node: Option<&Node<'_>>, what: &str) {
        let said = text.is_some().then(|| String::from_utf8(text.bytes(self.body).collect()).expect("UTF-8"));
        assert_eq!(said.as_deref(), node.and_then(Node::text), "{what}");
    }

    fn texts(&self, run: Run, node: Option<&Node<'_>>, what: &str) {
        let ours: Vec<String> = run
            .of(&self.view.texts)
            .iter()
            .map(|t| String::from_utf8(t.bytes(self.body).collect()).expect("UTF-8"))
            .collect();
        let theirs: Vec<&str> = node.and_then(Node::items).unwrap_or_default().iter().filter_map(Node::text).collect();
        assert_eq!(ours, theirs, "{what}");
    }

    fn numbers(&self, run: Run, node: Option<&Node<'_>>, what: &str) {
        let items = node.and_then(Node::items).unwrap_or_default().iter();
        let theirs: Vec<u32> = items.filter_map(|n| number(n).and_then(|n| u32::try_from(n).ok())).collect();
        assert_eq!(run.of(&self.view.numbers), theirs, "{what}");
    }

    /// A member's span holds its key, its value and nothing else.
    fn member(&self, span: Span, holder: Option<&Node<'_>>, key: &str) {
        let value = holder.and_then(Node::members).and_then(|m| m.iter().find(|(k, _)| k == key));
        assert_eq!(span.len > 0, value.is_some(), "{key}");
        if let Some((_, value)) = value {
            let text = std::str::from_utf8(span.of(self.body)).expect("UTF-8");
            assert!(text.starts_with('"') && text.ends_with(value.raw), "{key}: {text}");
            assert_eq!(span.end(), value.place(self.body).1, "{key}");
            let object = format!("{{{text}}}");
            let alone = Node::read(object.as_bytes(), JSON_DEPTH_MAX + 1).expect("a member is JSON");
            assert_eq!(alone.members().map(|m| (m.len(), m[0].0.as_str())), Some((1, key)));
        }
    }
}

fn compare(r: &Request, body: &[u8], node: &Node<'_>) {
    let both = Both { view: r, body };
    assert_eq!(r.whole.of(body), node.raw.as_bytes());
    let flag = |path: &[&str]| node.at(path).and_then(number) == Some(1);
    let count = |path: &[&str]| node.at(path).and_then(number).map(saturated);
    both.text(r.id, node.get("id"), "id");
    assert_eq!((r.test, r.allimps), (flag(&["test"]), flag(&["allimps"])));
    assert_eq!(r.at, count(&["at"]).filter(|&at| at > 0).unwrap_or(2));
    assert_eq!(r.tmax_ms, count(&["tmax"]));
    assert_eq!(r.cattax, count(&["cattax"]).unwrap_or(1).max(1));
    for (run, key) in
        [(r.wseat, "wseat"), (r.bseat, "bseat"), (r.bcat, "bcat"), (r.acat, "acat"), (r.badv, "badv"), (r.bapp, "bapp")]
    {
        both.texts(run, node.get(key), key);
    }
    let mut codes: Vec<Currency> = Vec::new();
    for code in node.get("cur").and_then(Node::items).unwrap_or_default().iter().filter_map(rules::currency) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    assert_eq!((r.cur.of(&r.currencies), &r.currencies), (&codes[..], &codes));
    channel(&both, node);
    for (text, path) in [
        (r.ua, &["device", "ua"][..]),
        (r.ip, &["device", "ip"]),
        (r.ipv6, &["device", "ipv6"]),
        (r.ifa, &["device", "ifa"]),
        (r.country, &["device", "geo", "country"]),
        (r.language, &["device", "language"]),
        (r.user_id, &["user", "id"]),
        (r.buyeruid, &["user", "buyeruid"]),
        (r.gpp, &["regs", "gpp"]),
        (r.tid, &["source", "tid"]),
    ] {
        both.text(text, node.at(path), &path.join("."));
    }
    both.text(r.consent, node.at(&["user", "consent"]).or(node.at(&["user", "ext", "consent"])), "consent");
    both.text(r.us_privacy, node.at(&["regs", "us_privacy"]).or(node.at(&["regs", "ext", "us_privacy"])), "us_privacy");
    let gdpr = node.at(&["regs", "gdpr"]).or(node.at(&["regs", "ext", "gdpr"]));
    assert_eq!(r.gdpr, gdpr.and_then(number).map(|n| n == 1));
    assert_eq!(r.devicetype, count(&["device", "devicetype"]).unwrap_or(0));
    assert_eq!((r.lmt, r.coppa, r.fd), (flag(&["device", "lmt"]), flag(&["regs", "coppa"]), flag(&["source", "fd"])));
    buyeruids(&both, node);
    anchors(&both, node);
    let imps = node.get("imp").and_then(Node::items).unwrap_or_default();
    assert_eq!(r.imps.len(), imps.len());
    for (imp, node) in r.imps.iter().zip(imps) {
        compare_imp(&both, imp, node);
    }
    let pod = |imp: &Node<'_>| {
        let poddur = |m: &str| imp.at(&[m, "poddur"]).and_then(number);
        poddur("video").max(poddur("audio")) > Some(0)
    };
    let sold = if imps.iter().all(pod) { Verdict::Refuse(Nbr::NothingToSell) } else { Verdict::Admit };
    assert_eq!(gate::admit_request(r), sold);
}

fn channel(both: &Both<'_>, node: &Node<'_>) {
    let r = both.view;
    let places = [(Channel::Site, "site"), (Channel::App, "app"), (Channel::Dooh, "dooh")];
    let given = places.into_iter().find_map(|(channel, key)| Some((channel, node.get(key)?)));
    assert_eq!(r.channel, given.map_or(Channel::Unknown, |g| g.0));
    let at = |path: &[&str]| given.and_then(|g| g.1.at(path));
    both.text(r.channel_id, at(&["id"]), "id of the channel");
    both.text(r.domain, at(&["domain"]), "domain");
    both.text(r.bundle, at(&["bundle"]), "bundle");
    both.text(r.publisher_id, at(&["publisher", "id"]), "publisher");
    both.texts(r.cat, at(&["cat"]), "cat");
    assert_eq!(r.channel_cattax, at(&["cattax"]).and_then(number).map(saturated).unwrap_or(1).max(1));
}

/// Those of `prebid` come first, wherever they stand.
fn buyeruids(both: &Both<'_>, node: &Node<'_>) {
    let ext = node.at(&["user", "ext"]);
    let maps = [ext.and_then(|e| e.at(&["prebid", "buyeruids"])), ext.and_then(|e| e.get("buyeruids"))];
    let all = maps.into_iter().flatten().flat_map(|map| map.members().unwrap_or_default());
    let theirs: Vec<(&str, &str)> =
        all.filter_map(|(k, v)| Some((k.as_str(), v.text().filter(|id| !id.is_empty())?))).collect();
    assert_eq!(both.view.buyeruids.len(), theirs.len());
    for ((dsp, id), (their_dsp, their_id)) in both.view.buyeruids.iter().zip(theirs) {
        assert!(dsp.is(both.body, their_dsp.as_bytes()), "{their_dsp}");
        assert!(id.is(both.body, their_id.as_bytes()), "{their_id}");
    }
}

fn anchors(both: &Both<'_>, node: &Node<'_>) {
    let a = &both.view.anchors;
    for (span, key) in [(a.tmax, "tmax"), (a.wseat, "wseat"), (a.bseat, "bseat"), (a.cur, "cur")] {
        both.member(span, Some(node), key);
    }
    let (user, ext) = (node.get("user"), node.at(&["user", "ext"]));
    both.member(a.buyeruid, user, "buyeruid");
    both.member(a.buyeruids_ext, ext, "buyeruids");
    both.member(a.buyeruids, ext.and_then(|e| e.get("prebid")), "buyeruids");
    let value = |span: Span, holder: Option<&Node<'_>>, key: &str| {
        let value = holder.and_then(Node::members).and_then(|m| m.iter().find(|(k, _)| k == key));
        assert_eq!(span.of(both.body), value.map_or(&b""[..], |(_, v)| v.raw.as_bytes()), "{key}");
    };
    value(a.imp, Some(node), "imp");
    value(a.user, Some(node), "user");
    value(a.source, Some(node), "source");
    value(a.source_ext, node.get("source"), "ext");
    let places = [
        (SchainPlace::Source, node.get("source")),
        (SchainPlace::SourceExt, node.at(&["source", "ext"])),
        (SchainPlace::Ext, node.get("ext")),
    ];
    let mut spares = a.schain_spare.iter().filter(|s| s.len > 0).count();
    let mut place = SchainPlace::Absent;
    for (at, holder) in places {
        let Some(_) = holder.and_then(Node::members).and_then(|m| m.iter().find(|(k, _)| k == "schain")) else {
            continue;
        };
        if place == SchainPlace::Absent {
            place = at;
            both.member(a.schain, holder, "schain");
            let nodes = holder.and_then(|h| h.at(&["schain", "nodes"])).filter(|n| n.items().is_some());
            assert_eq!(a.schain_nodes.of(both.body), nodes.map_or(&b""[..], |n| n.raw.as_bytes()));
        } else {
            assert!(spares > 0, "a chain in a second place");
            spares -= 1;
        }
    }
    assert_eq!((a.schain_place, spares), (place, 0));
}

fn compare_imp(both: &Both<'_>, imp: &Imp, node: &Node<'_>) {
    let r = both.view;
    assert_eq!(imp.whole.of(both.body), node.raw.as_bytes());
    both.text(imp.id, node.get("id"), "imp.id");
    both.text(imp.tagid, node.get("tagid"), "tagid");
    let flag = |path: &[&str]| node.at(path).and_then(number) == Some(1);
    let count = |path: &[&str]| node.at(path).and_then(number).map_or(0, saturated);
    assert_eq!((imp.secure, imp.instl, imp.rwdd), (flag(&["secure"]), flag(&["instl"]), flag(&["rwdd"])));
    assert_eq!(imp.private_auction, flag(&["pmp", "private_auction"]));
    assert_eq!((imp.bidfloor, imp.bidfloorcur), floor(node));
    assert_eq!(imp.exp_s, count(&["exp"]));
    let qty = node.at(&["qty", "multiplier"]).map_or(Multiplier::ONE, |n| Multiplier(scaled(n.raw, 6).0));
    assert_eq!(imp.qty, qty);
    let kinds =
        [("banner", Media::BANNER), ("video", Media::VIDEO), ("audio", Media::AUDIO), ("native", Media::NATIVE)];
    let media = kinds.iter().filter(|(key, _)| node.get(key).is_some());
    assert_eq!(imp.media, media.fold(Media::default(), |all, (_, m)| all.with(*m)));
    for (run, key) in [
        (imp.banner_battr, "banner"),
        (imp.video_battr, "video"),
        (imp.audio_battr, "audio"),
        (imp.native_battr, "native"),
    ] {
        both.numbers(run, node.at(&[key, "battr"]), key);
    }
    // The first of the request's own order that states a floor has it.
    let stated = node.members().unwrap_or_default().iter().find_map(|(key, value)| {
        let (_, media) = kinds.iter().find(|(k, _)| k == key)?;
        let stands = value.members()?.iter().any(|(k, _)| k == "bidfloor");
        let (amount, currency) = floor(value);
        stands.then_some((*media, amount, currency))
    });
    assert_eq!(imp.media_floor, stated);
    let timed = if node.get("video").is_some() { "video" } else { "audio" };
    assert_eq!(imp.duration_s, (count(&[timed, "minduration"]), count(&[timed, "maxduration"])));
    let pod = count(&["video", "poddur"]).max(count(&["audio", "poddur"])) > 0;
    assert_eq!(imp.refused, pod.then_some(ImpRefusal::DynamicPod));
    let mut sizes = Vec::new();
    let size = |n: &Node<'_>| {
        let side = |key| n.get(key).and_then(number).map_or(0, saturated);
        Some((side("w"), side("h"))).filter(|&(w, h)| w > 0 && h > 0)
    };
    sizes.extend(node.at(&["banner", "format"]).and_then(Node::items).unwrap_or_default().iter().filter_map(size));
    sizes.extend(node.get("banner").and_then(size).filter(|own| !sizes.contains(own)));
    assert_eq!(imp.sizes.of(&r.sizes), sizes);
    let deals = node.at(&["pmp", "deals"]).and_then(Node::items).unwrap_or_default();
    assert_eq!(usize::from(imp.deals.len), deals.len());
    for (deal, node) in imp.deals.of(&r.deals).iter().zip(deals) {
        both.text(deal.id, node.get("id"), "deal.id");
        assert_eq!((deal.bidfloor, deal.bidfloorcur), floor(node));
        assert_eq!(deal.at, node.get("at").and_then(number).map_or(0, saturated));
        assert_eq!(deal.guar, node.get("guar").and_then(number) == Some(1));
        both.texts(deal.wseat, node.get("wseat"), "deal.wseat");
        both.texts(deal.wadomain, node.get("wadomain"), "deal.wadomain");
    }
}

/// A floor, rounded up, and its currency.
fn floor(node: &Node<'_>) -> (Cpm, Currency) {
    let amount = node.get("bidfloor").map_or((0, true), |n| scaled(n.raw, 6));
    let currency = node.get("bidfloorcur").and_then(rules::currency).unwrap_or(Currency::USD);
    (Cpm(amount.0 as i64 + i64::from(!amount.1)), currency)
}

fn number(node: &Node<'_>) -> Option<i64> {
    if let Kind::Number = node.kind { whole(node.raw) } else { None }
}

/// As a field of 32 bits keeps it.
fn saturated(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}
