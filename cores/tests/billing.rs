//! What an advertiser is billed, of the real program: an invoice is what the ledger has spent, and the wins that it is opened into
//! add up to it, to the nano-unit; while the exchange runs, after a kill, and of its files alone.
mod common;
#[path = "process/program.rs"]
mod program;
use common::{connect, dsp, ok, read_answer};
use program::{Dir, Serving, run, until};
use serde_json::Value;
use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

const OURS: &str = "http://we.example/notice/";
const NO_BID: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Bids what is asked for at least, of the campaign that the request's id begins with.
fn at_floor(request: &Value, mine: impl Fn(&str) -> bool) -> Vec<u8> {
    let (id, imp) = (request["id"].as_str().unwrap_or(""), &request["imp"][0]);
    let (impid, floor, cid) = (imp["id"].as_str().unwrap_or(""), &imp["bidfloor"], &id[..id.len().min(1)]);
    if !mine(cid) {
        return NO_BID.to_vec();
    }
    ok(&format!(
        r#"{{"id":"{id}","seatbid":[{{"seat":"s","bid":[{{"id":"b","impid":"{impid}","price":{floor},"adm":"<b>","crid":"c","cid":"{cid}","adomain":["acme.example"],"w":300,"h":250}}]}}]}}"#
    ))
}

/// Two campaigns that have accounts.
fn budgeted(request: &Value) -> Vec<u8> {
    at_floor(request, |cid| matches!(cid, "k" | "l"))
}

/// One that has none.
fn unlimited(request: &Value) -> Vec<u8> {
    at_floor(request, |cid| cid == "f")
}

/// A win: its event, and where its billing notice is to be called.
struct Bought {
    bidid: String,
    burl: Option<String>,
}

fn buy(conn: &mut TcpStream, path: &str, id: &str, cpm: f64) -> Bought {
    let body = format!(
        r#"{{"id":"{id}","tmax":60000,"imp":[{{"id":"1","bidfloor":{cpm},"banner":{{"w":300,"h":250}}}}],"site":{{"domain":"a.example"}}}}"#
    );
    // The first bids on an account that no core has money of lose.
    until("a bid that is paid", || {
        let length = body.len();
        write!(conn, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("write");
        let answer = read_answer(conn);
        let said: Value = serde_json::from_slice(&answer.body).ok()?;
        let bid = &said["seatbid"][0]["bid"][0];
        bid.is_object().then(|| Bought {
            bidid: said["bidid"].as_str().expect("an event").to_owned(),
            burl: bid["burl"].as_str().and_then(|url| Some(format!("/notice/{}", url.strip_prefix(OURS)?))),
        })
    })
}

fn call(conn: &mut TcpStream, bought: &Bought) {
    let path = bought.burl.as_ref().expect("a notice is awaited");
    write!(conn, "GET {path} HTTP/1.1\r\nHost: we.example\r\n\r\n").expect("write");
    assert_eq!(read_answer(conn).status, 204);
}

/// Nano-units.
fn nanos(amount: &Value) -> i64 {
    (amount.as_f64().unwrap_or_else(|| panic!("{amount} is an amount")) * 1e9).round() as i64
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// A command of `outcry audit` that finds all in order: its lines.
#[track_caller]
fn audit(args: &[&str]) -> Vec<Value> {
    let (code, out, err) = run(&[&["audit"], args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    lines(&out)
}

struct World {
    state: String,
    /// The months, and the days, in which the test has run: one, but at midnight.
    since_ms: u64,
}

impl World {
    fn dates(&self, length: usize) -> Vec<String> {
        let now_ms = outcry_cores::bidder::turn::now().unix_ms();
        let mut dates = [self.since_ms, now_ms].map(|ms| outcry::record::when::utc(ms)[..length].to_owned()).to_vec();
        dates.dedup();
        dates
    }

    fn months(&self, more: &[&str]) -> Vec<Value> {
        let of = |month: &String| audit(&[&["invoice", &self.state, "--month", month], more].concat());
        self.dates(7).iter().flat_map(of).collect()
    }
}

/// What an invoice says of a campaign: wins and nano-units.
fn line(invoice: &[Value], campaign: &str, line: &str) -> (u64, i64) {
    let rows = invoice.iter().filter(|row| row["type"] == "campaign" && row["campaign"] == campaign);
    let parts = rows.map(|row| (row[line]["wins"].as_u64().expect("wins"), nanos(&row[line]["amount"])));
    parts.fold((0, 0), |all, part| (all.0 + part.0, all.1 + part.1))
}

/// What the ledger says of an account: spent, held.
fn ledger(serving: &Serving, account: &str) -> [i64; 2] {
    let said: Value = serde_json::from_str(&serving.get(&format!("/budget/accounts/{account}")).text()).expect("JSON");
    ["spent", "held"].map(|name| nanos(&said["today"][name]))
}

#[test]
fn an_invoice_is_what_the_ledger_has_spent_and_opens_into_its_wins() {
    let dir = Dir::new();
    let campaign = |name: &str, cid: &str| {
        format!(
            "[[advertiser.campaign]]\nname = \"{name}\"\ndsp = \"floor\"\nseat = \"s\"\ncid = \"{cid}\"\ndaily = 50000\n"
        )
    };
    let accounts = format!(
        "[[advertiser]]\nname = \"acme\"\ndaily = 100000\n{}{}",
        campaign("acme.one", "k"),
        campaign("acme.two", "l")
    );
    let file = dir.write("budgets.toml", &accounts);
    let rest = format!(
        "[cpus]\nbidder_count = 1\n[budget]\nfile = {file:?}\n[notices]\nurl = \"http://we.example\"\nlife_s = 10\n\
         [[exchange]]\nname = \"x\"\npath = \"/x\"\nsettle = \"notice\"\nno_bid = \"nbr\"\n\
         [[exchange]]\nname = \"y\"\npath = \"/y\"\nno_bid = \"nbr\"\n"
    );
    let config = dir.config("", &[("floor", dsp(budgeted)), ("free", dsp(unlimited))], &rest);
    let state = dir.0.join("state").to_str().expect("a path").to_owned();
    let world = World { state, since_ms: outcry_cores::bidder::turn::now().unix_ms() };

    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    // Amounts of which no two sums are the same.
    let waiting: Vec<Bought> = (0..6).map(|n| buy(&mut conn, "/x", &format!("k-{n}"), f64::from(1 << n))).collect();
    let sold = Instant::now();
    for n in 0..4 {
        assert!(buy(&mut conn, "/y", &format!("l-{n}"), f64::from(100 << n)).burl.is_none());
    }
    let free: Vec<Bought> = (0..3).map(|n| buy(&mut conn, "/x", &format!("f-{n}"), f64::from(1_000 << n))).collect();
    serving.kill();

    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    for bought in [&waiting[0], &waiting[1], &waiting[1], &free[0]] {
        call(&mut conn, bought);
    }
    for n in 6..8 {
        buy(&mut conn, "/y", &format!("k-{n}"), f64::from(1 << n));
    }
    // Its token says when it is too late.
    std::thread::sleep(Duration::from_secs(12).saturating_sub(sold.elapsed()));
    call(&mut conn, &waiting[2]);
    call(&mut conn, &waiting[0]);
    let admin = serving.admin.to_string();
    let milli = 1_000_000;
    let spent = (1 + 2 + 64 + 128) * milli;

    let check = |invoice: &[Value], kind: &str| {
        assert_eq!(line(invoice, "acme.one", "billed"), (4, spent), "{kind}");
        assert_eq!(line(invoice, "acme.one", "charged"), (8, 255 * milli), "{kind}");
        assert_eq!(line(invoice, "acme.one", "waiting"), (4, -60 * milli), "{kind}");
        assert_eq!(
            line(invoice, "acme.one", "late_notices"),
            (1, 4 * milli),
            "{kind}: the repetition of a notice is none"
        );
        assert_eq!(line(invoice, "acme.two", "billed"), (4, 1_500 * milli), "{kind}");
        let of_buyer = |campaign: &str| line(invoice, campaign, "billed");
        assert_eq!(of_buyer("f"), (1, 1_000 * milli), "{kind}: who has no account is billed too");
    };
    let late = || line(&world.months(&["--admin", &admin]), "acme.one", "late_notices").0;
    until("the journal has it", || (late() == 1).then_some(()));
    check(&world.months(&["--admin", &admin]), "running");
    serving.stop();

    let invoice = world.months(&[]);
    check(&invoice, "its files");
    let whole = line(&invoice, "acme.one", "billed").1 + line(&invoice, "acme.two", "billed").1;
    let of_one: i64 = invoice.iter().filter(|r| r["type"] == "advertiser").map(|r| nanos(&r["billed"]["amount"])).sum();
    assert_eq!(of_one, whole, "the advertiser's sum");

    // Opened: the wins come to the same, and say where their records are.
    let opened = world.months(&["--lines"]);
    let wins: Vec<&Value> = opened.iter().filter(|l| l["type"] == "win").collect();
    assert_eq!(wins.len(), 6 + 4 + 3 + 2);
    let billed = |cid: &str| wins.iter().filter(|w| w["cid"] == cid).map(|w| nanos(&w["billed"])).sum::<i64>();
    assert_eq!((billed("k"), billed("l"), billed("f")), (spent, 1_500 * milli, 1_000 * milli));
    let fate = |bought: &Bought| {
        let win = wins.iter().find(|w| w["bidid"] == bought.bidid.as_str()).expect("a win");
        win["delivery"].as_str().expect("a word").to_owned()
    };
    assert_eq!([&waiting[0], &waiting[2], &free[0], &free[1]].map(fate), ["billed", "waits", "billed", "waits"]);
    assert!(wins.iter().all(|w| w["segment"].is_number() && (w["delivery"] == "billed") == w["settled"].is_object()));
    let late: Vec<&Value> = opened.iter().filter(|l| l["type"] == "late_notice").collect();
    assert_eq!((late.len(), late[0]["bidid"].as_str()), (1, Some(waiting[2].bidid.as_str())));

    // By whatever an advertiser is known.
    let advertiser = |args: &[&str]| -> i64 {
        let all = audit(&[&["advertiser"], args, &[&world.state]].concat());
        all.iter().filter(|l| l["type"] == "sum").map(|l| nanos(&l["billed"])).sum()
    };
    assert_eq!(advertiser(&["acme", "--by", "account"]), whole);
    assert_eq!(advertiser(&["acme.one", "--by", "account"]), spent);
    assert_eq!(advertiser(&["acme.example"]), whole + 1_000 * milli);

    // One auction, with what came of it.
    let text = |bought: &Bought| run(&["audit", "request", &bought.bidid, &world.state]).1;
    let (first, third) = (text(&waiting[0]), text(&waiting[2]));
    assert!(first.contains("billed at 1 CPM, in time") && first.contains("; billed 0.001\n"), "{first}");
    assert!(third.contains("too late") && third.contains("waits for its notice until"), "{third}");

    // Other programs get the same.
    let csv = |more: &[&str]| -> Vec<String> {
        let of =
            |month: &String| run(&[&["audit", "invoice", &world.state, "--csv", "--month", month], more].concat()).1;
        world.dates(7).iter().flat_map(|m| of(m).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let sums = csv(&["--account", "acme.two"]);
    assert!(sums.contains(&"campaign,acme,,acme.two,USD,billed,4,1.5".to_owned()), "{sums:?}");
    let of_line = |line: &str| csv(&["--lines", "--of", line]).iter().filter(|l| l.starts_with("win,")).count();
    assert_eq!([of_line("waiting"), of_line("billed"), of_line("lapsed")], [4 + 2, 4 + 4 + 1, 0]);
    assert_eq!(csv(&["--lines"]).iter().filter(|l| l.starts_with("win,")).count(), wins.len());

    // And day by day ledger and record are equal, also campaign by campaign.
    for day in world.dates(10) {
        for row in audit(&["reconcile", &world.state, "--day", &day]) {
            assert_eq!(nanos(&row["difference"]), 0, "{row}");
            if row["account"] == "acme.one" {
                assert_eq!((nanos(&row["late_notices"]), &row["advertiser"]), (4 * milli, &"acme".into()), "{row}");
            }
        }
    }
    #[cfg(feature = "tiers")]
    in_the_tiers(&world, &dir, &invoice);
    let serving = Serving::start(&config);
    assert_eq!(ledger(&serving, "acme.one"), [spent, 60 * milli]);
    assert_eq!(ledger(&serving, "acme.two"), [1_500 * milli, 0]);
    serving.stop();
    let (code, _, err) = run(&["audit", "invoice", &world.state, "--month", "2026-01", "--account", "acme.on"]);
    assert!(code == 2 && err.contains("is it \"acme.one\"?"), "{code} {err}");
}

/// What was exported says the same: all of it, and also as far as it goes.
#[cfg(feature = "tiers")]
fn in_the_tiers(world: &World, dir: &Dir, invoice: &[Value]) {
    let store = |name: &str| dir.0.join(name).to_str().expect("a path").to_owned();
    let (none, all) = (store("tiers-none"), store("tiers-all"));
    std::fs::create_dir_all(&none).expect("a directory");
    let (code, out, err) = run(&["tiers", "export", &world.state, &all, "--last"]);
    assert_eq!(code, 0, "{out}{err}");
    for (url, exported) in [(&none, false), (&all, true)] {
        let mut seen = 0;
        for day in world.dates(10) {
            for row in audit(&["reconcile", &world.state, "--day", &day, "--tiers", url]) {
                let buyer = row["type"] == "buyer";
                assert!(buyer || nanos(&row["difference_ledger_rows"]) == 0, "{row}");
                assert_eq!(nanos(&row["difference_record_rows"]), 0, "{row}");
                let same = row["rows"] == row["record"];
                assert!(buyer || same == exported || nanos(&row["record"]) == 0, "{row}");
                seen += 1;
            }
        }
        // Two campaigns, their sum, a buyer.
        assert!(seen >= 4, "{seen}");
    }
    // A row that is altered counts for nothing, and what is missing then is listed.
    fn files(at: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(at).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() { files(&path, found) } else { found.push(path) }
        }
    }
    let mut rows = Vec::new();
    files(&dir.0.join("tiers-all/wins"), &mut rows);
    for path in &rows {
        let mut bytes = std::fs::read(path).expect("rows");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("written");
    }
    let day = &world.dates(10)[0];
    let (code, out, err) = run(&["audit", "reconcile", &world.state, "--day", day, "--tiers", &all]);
    assert!(code == 1 && err.contains("it is not what was exported"), "{code} {out}{err}");
    assert!(out.contains("between record and rows") && out.contains(" only in record"), "{out}{err}");
    // An invoice from the archive alone is the same one.
    let empty = store("empty");
    std::fs::create_dir_all(&empty).expect("a directory");
    let state = std::path::Path::new(&world.state);
    std::fs::copy(state.join("ledger.redb"), dir.0.join("empty/ledger.redb")).expect("the ledger");
    let months = world.dates(7);
    let archived = |month: &String| audit(&["invoice", &empty, "--month", month, "--tiers", &all]);
    assert_eq!(months.iter().flat_map(archived).collect::<Vec<_>>(), invoice);
}
