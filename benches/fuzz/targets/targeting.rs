//! What DSPs state they buy, against a naive reading: one DSP after the other, one impression after the other, list by list.
//! The requests are made of what the configuration names, so that much of it is met.
use crate::mutate::Draw;
use outcry::{
    auction::Offers,
    config::{BuyerUid, Config, Dsp},
    dsp::targets::Targets,
    openrtb::request::{Channel, Request},
    units::Currency,
};
use outcry_cores::lab::by_hand;
use serde_json::{Map, Value, json};

/// Requests that are made of one configuration.
const REQUESTS: usize = 6;
const MEDIA: [&str; 4] = ["banner", "video", "audio", "native"];

#[derive(Debug)]
struct Deal {
    id: String,
    wseat: Vec<String>,
    cur: Currency,
}

#[derive(Debug)]
struct Imp {
    media: Vec<usize>,
    sizes: Vec<(u32, u32)>,
    instl: bool,
    secure: bool,
    cur: Currency,
    private: bool,
    deals: Vec<Deal>,
}

/// A request, as its maker knows it.
#[derive(Debug)]
struct Said {
    country: Option<String>,
    device: Option<u32>,
    channel: Channel,
    publisher: Option<String>,
    language: Option<String>,
    cats: Vec<String>,
    cattax: Option<u32>,
    ids: Vec<String>,
    own_id: bool,
    wseat: Vec<String>,
    bseat: Vec<String>,
    imps: Vec<Imp>,
}

/// A configuration that could run. `seed` chooses the requests.
pub fn check(config: &Config, seed: u64) {
    let targets = Targets::new(&config.dsps, &config.rates);
    let mut draw = Draw::new(seed);
    for _ in 0..REQUESTS {
        let said = said(config, &mut draw);
        let body = serde_json::to_vec(&written(&said)).expect("JSON");
        let mut request = Request::default();
        request.parse(&body, 0, &Default::default()).unwrap_or_else(|e| panic!("{e:?}: {said:?}"));
        let start = by_hand::start(config, 0, &request, &body);
        let offers = Offers::of(&start, &targets);
        assert_eq!((offers.eligible | offers.wanted) & !targets.all(), 0, "DSPs that are not there");
        for (at, dsp) in config.dsps.iter().enumerate() {
            let each: Vec<(bool, bool, bool)> = said.imps.iter().map(|imp| naive(config, dsp, &said, imp)).collect();
            let imps = each.iter().enumerate().fold(0, |imps, (i, e)| imps | u64::from(e.1) << i);
            let bit = |set: u64| set >> at & 1 == 1;
            let theirs = (each.iter().any(|e| e.0), each.iter().any(|e| e.1), each.iter().any(|e| e.2), imps);
            let ours = (bit(offers.eligible), bit(offers.wanted), bit(offers.on_deal), offers.to(at));
            assert_eq!(ours, theirs, "{dsp:?}\n{said:?}");
        }
    }
}

/// May it be offered this impression, does it want it, and has it a deal of its own?
fn naive(config: &Config, dsp: &Dsp, said: &Said, imp: &Imp) -> (bool, bool, bool) {
    let rated = |cur: &Currency| config.rates.rate(*cur).is_some();
    let own = &config.exchanges[0].currencies;
    let answerable = if own.is_empty() { rated(&Currency::USD) } else { own.iter().any(rated) };
    let priced = dsp.currencies.is_empty() || dsp.currencies.iter().any(rated);
    let any_seat = |fits: &dyn Fn(&String) -> bool| dsp.seats.is_empty() || dsp.seats.iter().any(fits);
    let on = |list: &[String], seat: &String| list.is_empty() || list.contains(seat);
    let free = |seat: &String| on(&said.wseat, seat) && !said.bseat.contains(seat);
    let buys = imp.media.iter().any(|m| dsp.media.0 >> m & 1 == 1);
    let usable = |deal: &Deal| rated(&deal.cur) && any_seat(&|seat| free(seat) && on(&deal.wseat, seat));
    let open = !imp.private && rated(&imp.cur) && any_seat(&free);
    let may = answerable && priced && buys && any_seat(&free) && (open || imp.deals.iter().any(usable));
    let b = &dsp.buys;
    let listed =
        |list: &[String], value: &Option<String>| list.is_empty() || value.as_ref().is_some_and(|v| list.contains(v));
    let device = said.device.filter(|d| (1..=8).contains(d)).unwrap_or(0);
    let below = |list: &[String], cat: &str| {
        list.iter().any(|of| cat == of || cat.split_once('-').is_some_and(|(tier, _)| tier == of))
    };
    let silent = said.cats.is_empty() || said.cattax.unwrap_or(1).max(1) != 1;
    let category = silent
        || (b.categories.is_empty() || said.cats.iter().any(|c| below(&b.categories, c)))
            && !said.cats.iter().any(|c| below(&b.categories_not, c));
    let known = said.ids.contains(&dsp.name) || said.own_id && dsp.buyeruid == BuyerUid::Request;
    let request = listed(&b.countries, &said.country)
        && (b.devices == 0 || b.devices >> device & 1 == 1)
        && (b.channels == 0 || b.channels >> said.channel as u8 & 1 == 1)
        && listed(&b.publishers, &said.publisher)
        && said.publisher.as_ref().is_none_or(|p| !b.publishers_not.contains(p))
        && (said.language.is_none() || listed(&b.languages, &said.language))
        && category
        && (!b.buyeruid_needed || known);
    let sized =
        b.sizes.is_empty() || imp.instl || imp.sizes.is_empty() || imp.sizes.iter().any(|s| b.sizes.contains(s));
    let medium = imp.media.iter().any(|m| dsp.media.0 >> m & 1 == 1 && (*m != 0 || sized));
    let own = may && imp.deals.iter().any(|d| b.deals.contains(&d.id) && usable(d));
    let stated = request && medium && (imp.secure || !b.secure_needed) && (!imp.private || b.deals.is_empty());
    (may, may && stated || own, own)
}

/// One of these, or of some others, or nothing.
fn some(draw: &mut Draw, named: &[String], others: &[&str]) -> Option<String> {
    match draw.below(4) {
        0 => None,
        1 => others.get(draw.below(others.len())).map(|o| (*o).to_owned()),
        _ => named.get(draw.below(named.len())).cloned(),
    }
    .filter(|text| !text.is_empty())
}

fn several(draw: &mut Draw, named: &[String], others: &[&str]) -> Vec<String> {
    let count = draw.below(3);
    (0..count).filter_map(|_| some(draw, named, others)).collect()
}

fn said(config: &Config, draw: &mut Draw) -> Said {
    let all = |of: &dyn Fn(&Dsp) -> Vec<String>| config.dsps.iter().flat_map(of).collect::<Vec<String>>();
    let seats = all(&|d| d.seats.clone());
    let publishers = all(&|d| [&d.buys.publishers[..], &d.buys.publishers_not].concat());
    let categories = all(&|d| [&d.buys.categories[..], &d.buys.categories_not].concat());
    let deals = all(&|d| d.buys.deals.clone());
    let sizes: Vec<(u32, u32)> = config.dsps.iter().flat_map(|d| d.buys.sizes.clone()).collect();
    let names = all(&|d| vec![d.name.clone()]);
    let rare = |draw: &mut Draw, n: usize| draw.below(n) == 0;
    let currency = |draw: &mut Draw| match draw.below(4) {
        0 => Currency(*b"XXX"),
        _ => config.rates.rates.get(draw.below(config.rates.rates.len())).map_or(Currency::USD, |r| r.0),
    };
    let mut imps = Vec::new();
    for _ in 0..1 + draw.below(3) {
        let mut media: Vec<usize> = (0..4).filter(|_| rare(draw, 3)).collect();
        if media.is_empty() {
            media.push(draw.below(4));
        }
        let mut own = Vec::new();
        for _ in 0..draw.below(3) {
            if let Some(id) = some(draw, &deals, &["no-deal"]) {
                own.push(Deal { id, wseat: several(draw, &seats, &["s"]), cur: currency(draw) });
            }
        }
        let banner = media.contains(&0);
        let mut mine = Vec::new();
        for _ in 0..draw.below(3) {
            mine.push(match sizes.get(draw.below(sizes.len())) {
                Some(size) if !rare(draw, 3) => *size,
                _ => (300, 250),
            });
        }
        imps.push(Imp {
            sizes: if banner { mine } else { Vec::new() },
            media,
            instl: rare(draw, 6),
            secure: rare(draw, 2),
            cur: currency(draw),
            private: rare(draw, 3),
            deals: own,
        });
    }
    let mut said = Said {
        country: some(draw, &all(&|d| d.buys.countries.clone()), &["AUS"]),
        device: (!rare(draw, 5)).then(|| draw.below(10) as u32),
        channel: Channel::ALL[draw.below(4)],
        publisher: some(draw, &publishers, &["nobody", "\"p\\"]),
        language: some(draw, &all(&|d| d.buys.languages.clone()), &["xx"]),
        cats: several(draw, &categories, &["IAB1", "IAB1-1", "IAB9-30", "7", "IAB9-30-and-much-that-is-none"]),
        cattax: (!rare(draw, 3)).then(|| draw.below(3) as u32),
        ids: several(draw, &names, &["stranger"]),
        own_id: rare(draw, 2),
        wseat: several(draw, &seats, &["s"]),
        bseat: several(draw, &seats, &["s"]),
        imps,
    };
    if said.channel == Channel::Unknown {
        // They stand in the channel's object.
        (said.publisher, said.cats) = (None, Vec::new());
    }
    said
}

/// The request as JSON.
fn written(said: &Said) -> Value {
    let imp = |(at, imp): (usize, &Imp)| {
        let mut object = Map::new();
        object.insert("id".into(), json!(at.to_string()));
        for medium in &imp.media {
            let mut inside = Map::new();
            match medium {
                0 if !imp.sizes.is_empty() => {
                    let sizes: Vec<Value> = imp.sizes.iter().map(|(w, h)| json!({ "w": w, "h": h })).collect();
                    inside.insert("format".into(), json!(sizes));
                }
                1 | 2 => drop(inside.insert("mimes".into(), json!(["video/mp4"]))),
                3 => drop(inside.insert("request".into(), json!("{\"assets\":[{\"id\":1,\"title\":{\"len\":9}}]}"))),
                _ => {}
            }
            object.insert(MEDIA[*medium].into(), Value::Object(inside));
        }
        let deal = |d: &Deal| json!({ "id": d.id, "wseat": d.wseat, "bidfloor": 1, "bidfloorcur": d.cur.as_str() });
        let deals: Vec<Value> = imp.deals.iter().map(deal).collect();
        object.insert("pmp".into(), json!({ "private_auction": u8::from(imp.private), "deals": deals }));
        object.insert("instl".into(), json!(u8::from(imp.instl)));
        object.insert("secure".into(), json!(u8::from(imp.secure)));
        object.insert("bidfloor".into(), json!(1));
        object.insert("bidfloorcur".into(), json!(imp.cur.as_str()));
        Value::Object(object)
    };
    let mut user = json!({ "ext": { "prebid": { "buyeruids": {} } } });
    for name in &said.ids {
        user["ext"]["prebid"]["buyeruids"][name] = json!("u");
    }
    if said.own_id {
        user["buyeruid"] = json!("mine");
    }
    let imps: Vec<Value> = said.imps.iter().enumerate().map(imp).collect();
    let mut request = json!({
        "id": "r",
        "imp": imps,
        "wseat": said.wseat,
        "bseat": said.bseat,
        "device": { "geo": { "country": said.country }, "devicetype": said.device, "language": said.language },
        "user": user,
    });
    if let Some(channel) = said.channel.name() {
        request[channel] = json!({ "publisher": { "id": said.publisher }, "cat": said.cats, "cattax": said.cattax });
    }
    request
}

/// The words of a configuration that states much.
pub fn configuration(draw: &mut Draw) -> String {
    let mut text = "[rates]\ntable = { EUR = 1.1, GBP = 1.3 }\n".to_owned();
    let lists = [
        ("sizes", &["300x250", "320x50", "728x90"][..]),
        ("countries", &["DEU", "FRA", "USA"]),
        ("devices", &["pc", "phone", "tablet", "tv", "ooh"]),
        ("channels", &["site", "app", "dooh"]),
        ("publishers", &["p-1", "p-2", "p-3"]),
        ("publishers_not", &["p-4", "p-5"]),
        ("deals", &["d-1", "d-2", "d-3"]),
        ("languages", &["en", "de"]),
        ("categories", &["IAB1", "IAB2-1", "IAB3"]),
        ("categories_not", &["IAB1-2", "IAB4", "IAB2"]),
        ("seats", &["s-1", "s-2", "s-3"]),
        ("currencies", &["EUR", "USD"]),
        ("media", &MEDIA),
    ];
    for at in 0..1 + draw.below(12) {
        text += &format!("[[dsp]]\nname = \"dsp-{at}\"\nurl = \"http://127.0.0.1:9001/\"\n");
        for (key, words) in lists {
            if draw.below(3) > 0 {
                continue;
            }
            let first = draw.below(words.len());
            let some = &words[first..first + 1 + draw.below(words.len() - first)];
            text += &format!("{key} = {some:?}\n");
        }
        for line in ["buyeruid_needed = true", "secure_needed = true", "buyeruid = \"request\"", "qps = 5"] {
            if draw.below(5) == 0 {
                text += line;
                text += "\n";
            }
        }
    }
    text
}
