//! Answers as real DSPs shape them, from `../shared/corpus` beside the tree. For each a request is built out of the ids
//! in it: every medium, no floor, the deals it names, its currency; so what happens to it is the answer's own doing.
//! What that is stands in `dsp_answers.golden.txt`, which people have read; `OUTCRY_BLESS=1` writes it anew.
use outcry::{
    auction::{Answers, Auction, Offers, Start, Unlimited, replay},
    config::{self, Config},
    dsp::targets::Targets,
    openrtb::{
        codes::{Loss, Outcome},
        request::Request,
        response::Response,
    },
    units::{DspIx, MS},
};
use outcry_cores::lab::by_hand;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

const CONFIG: &str = r#"
[rates]
id = "2026-11-21"
accounting = "USD"
table = { USD = 1, CHF = 1.24, EUR = 1.15, MXN = 0.054, PLN = 0.27 }
[[dsp]]
name = "dsp"
url = "http://127.0.0.1:1/"
"#;

const GOLDEN: &str = "tests/dsp_answers.golden.txt";

/// Every bid of an answer that has the shape of one.
fn bids(answer: &Value) -> impl Iterator<Item = &Value> {
    let seatbids = answer["seatbid"].as_array().into_iter().flatten();
    seatbids.flat_map(|s| s["bid"].as_array().into_iter().flatten())
}

/// The request that this answers.
fn request(answer: &Value) -> Value {
    let mut imps: Vec<Value> = Vec::new();
    for bid in bids(answer) {
        let Some(id) = bid["impid"].as_str() else { continue };
        let at = imps.iter().position(|i| i["id"] == id).unwrap_or_else(|| {
            imps.push(imp(id));
            imps.len() - 1
        });
        let deals = imps[at]["pmp"]["deals"].as_array_mut().expect("deals");
        if let Some(deal) = bid["dealid"].as_str().filter(|d| !d.is_empty() && !deals.iter().any(|x| x["id"] == *d)) {
            deals.push(json!({"id": deal}));
        }
    }
    if imps.is_empty() {
        imps.push(imp("1"));
    }
    let id = answer["id"].as_str().unwrap_or("a request whose id the answer does not repeat");
    let mut request = json!({"id": id, "imp": imps, "tmax": 100, "site": {"page": "https://site.example/"}});
    if let Some(cur) = answer["cur"].as_str().filter(|c| !c.is_empty()) {
        // Dollars are allowed besides: a currency that is none is then the answer's fault, not the request's.
        request["cur"] = json!([cur, "USD"]);
    }
    request
}

fn imp(id: &str) -> Value {
    json!({
        "id": id,
        "banner": {},
        "video": {"mimes": ["video/mp4"]},
        "audio": {"mimes": ["audio/mp4"]},
        "native": {"request": r#"{"assets":[{"id":1,"title":{"len":90}}]}"#},
        "bidfloor": 0,
        "pmp": {"deals": []},
    })
}

struct One<'a>(&'a Response, &'a [u8]);

impl Answers for One<'_> {
    fn leg(&self, _: u8) -> (&Response, &[u8]) {
        (self.0, self.1)
    }
}

/// Runs the auction and says in a line what became of the answer.
fn run(config: &Config, name: &str, bytes: &[u8], auction: &mut Auction, outcomes: &mut BTreeMap<&str, u32>) -> String {
    let answer: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let body = serde_json::to_vec(&request(&answer)).expect("JSON");
    let (mut request, mut response) = (Request::default(), Response::default());
    request.parse(&body, 0, &Default::default()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let start = by_hand::start(config, 0, &request, &body);
    let dsp = &config.dsps[0];
    auction.begin(&start);
    let imps = Offers::of(&start, &Targets::new(&config.dsps, &config.rates)).to(0);
    assert_eq!(imps.count_ones() as usize, request.imps.len(), "{name}: the DSP is offered everything");
    let leg = auction.ask(DspIx(0), &dsp.name, imps, 1_000 * MS);
    let read = response.parse(bytes).map_err(|_| ());
    let outcome = auction.leg_answered(leg, dsp, read.map(|()| &response), bytes, &start, 1_020 * MS);
    auction.decide(&mut Unlimited, &Default::default(), 1_020 * MS);

    *outcomes.entry(outcome.name()).or_default() += 1;
    let decision = auction.decision();
    assert_eq!(&replay(auction.record()), decision, "{name}: replayed from its record it is decided otherwise");
    assert_eq!(decision.losses.len(), auction.inputs().bids.len(), "{name}: every bid has its reason");
    let mut line = format!("{name} {}", outcome.name());
    for (at, loss) in decision.losses.iter().enumerate() {
        let bid = &auction.inputs().bids[at];
        // Numbers, not ids: the answers are not copied into the tree.
        write!(line, " | imp {}: {loss:?}", bid.imp).expect("a string");
        if *loss == Loss::Won {
            let win = decision.wins.iter().find(|w| w.input as usize == at).expect("a win");
            write!(line, " at {} of {} {}", win.price, win.bid_price, decision.answer_currency).expect("a string");
        }
    }
    let unread = auction.inputs().legs[0].bids_unusable;
    if unread > 0 {
        write!(line, " | {unread} unusable").expect("a string");
    }
    if outcome != Outcome::Bid {
        assert!(decision.wins.is_empty(), "{line}");
    }
    check_answer(&line, auction, &start, &response, bytes, &answer);
    line
}

/// Our own answer: the winners' bids as they came, but for the price and the macros.
fn check_answer(line: &str, auction: &Auction, start: &Start<'_>, response: &Response, bytes: &[u8], theirs: &Value) {
    let mut out = Vec::new();
    auction.write_answer(&One(response, bytes), start, None, &mut out);
    let ours: Value = serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{line}: our answer is no JSON: {e}"));
    assert_eq!(ours["id"].as_str().map(str::as_bytes), Some(start.request.id.raw(start.body)), "{line}");
    let wins = &auction.decision().wins;
    assert_eq!(bids(&ours).count(), wins.len(), "{line}: {ours}");
    for bid in bids(&ours) {
        let price = bid["price"].as_f64().unwrap_or_else(|| panic!("{line}: the price is a number: {bid}"));
        assert!(price > 0.0, "{line}");
        let same = |(key, value): (&String, &Value)| {
            let mut text = value.as_str().unwrap_or("");
            let macros = ["adm", "nurl", "burl", "lurl"].contains(&key.as_str());
            if macros && text.contains("${") {
                text = text.split("${").next().unwrap_or(""); // up to the first macro nothing changes
                return bid[key].as_str().is_some_and(|ours| ours.starts_with(text));
            }
            key == "price" || bid.get(key) == Some(value)
        };
        let as_it_came = |b: &Value| b["impid"] == bid["impid"] && b.as_object().is_some_and(|b| b.iter().all(same));
        assert!(bids(theirs).any(as_it_came), "{line}: not as the DSP wrote it: {bid}");
    }
}

#[test]
fn every_real_answer_has_the_outcome_that_was_reviewed() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.join("../../shared/corpus/dsp-responses");
    let Ok(dir) = std::fs::read_dir(&root) else {
        println!("SKIPPED: no {}", root.display());
        return;
    };
    let mut files: Vec<PathBuf> = dir.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let config = config::load(CONFIG, 1).unwrap_or_else(|m| panic!("{m:?}"));
    // One auction for all of them, as on a bidder core: what is left of one must not show in the next.
    let (mut auction, mut outcomes, mut table) = (Auction::default(), BTreeMap::new(), String::new());
    for file in &files {
        let name = file.file_stem().and_then(|n| n.to_str()).expect("a name");
        let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{name}: {e}"));
        table += &run(&config, name, &bytes, &mut auction, &mut outcomes);
        table.push('\n');
    }
    println!("{} answers: {outcomes:?}", files.len());
    let path = manifest.join(GOLDEN);
    if std::env::var_os("OUTCRY_BLESS").is_some() {
        std::fs::write(&path, &table).expect("the table");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differ: Vec<String> = table
        .lines()
        .zip(golden.lines().chain(std::iter::repeat("")))
        .filter(|(now, was)| now != was)
        .map(|(now, was)| format!("\n  was {was}\n  now {now}"))
        .collect();
    assert!(differ.is_empty(), "{} of {} lines differ:{}", differ.len(), files.len(), differ.concat());
    assert_eq!(table.lines().count(), golden.lines().count(), "files and lines of {GOLDEN}");
    assert!(files.len() >= 399, "{} files", files.len());
}
