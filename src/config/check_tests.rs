//! Broken files and the mistakes they are told: line, key, nearest right thing.
use super::*;
use crate::{
    config::resolved::{IoDriver, RunnerUp, Settle, TlsRules, Wrapping},
    notice::target::Host,
    openrtb::request::Media,
    units::Cpm,
};
use proptest::prelude::*;

type Row<'a> = (usize, &'a str, Option<&'a str>);

/// `text` has exactly these mistakes, in this order.
#[track_caller]
fn check(text: &str, want: &[Row<'_>]) {
    let mistakes = load(text, 1).err().unwrap_or_default();
    let got: Vec<Row<'_>> = mistakes.iter().map(|m| (m.line, m.key.as_str(), m.nearest.as_deref())).collect();
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "\n{text}\n{}", lines.join("\n"));
}

const DSP: &str = "[[dsp]]\nname = \"a\"\nurl = \"http://a.example/\"\n";

/// The same, for lines below a DSP that is right; line 1 is the first of `text`.
#[track_caller]
fn check_dsp(text: &str, want: &[Row<'_>]) {
    let moved: Vec<Row<'_>> = want.iter().map(|w| (w.0 + 3, w.1, w.2)).collect();
    check(&format!("{DSP}{text}"), &moved);
}

#[test]
fn an_empty_file_runs() {
    let config = load("", 7).unwrap();
    assert_eq!(config.id, 7);
    assert_eq!((config.listen.to_string(), config.admin.to_string()), ("0.0.0.0:8080".into(), "127.0.0.1:9090".into()));
    assert_eq!((config.node, config.io_driver, config.stop_ms), (None, IoDriver::Auto, 5_000));
    assert_eq!(config.state_dir.to_str(), Some("/var/lib/outcry"));
    let http = &config.http;
    assert_eq!((http.head_bytes, http.body_bytes, http.gzip_min_bytes), (8 * 1024, 256 * 1024, 1024));
    assert_eq!((http.idle_ms, http.slow_ms, http.write_ms), (180_000, 5_000, 5_000));
    assert_eq!((http.connections, http.auctions), (8_192, 4_096));
    let a = &config.auction;
    assert_eq!((a.increment, a.runner_up, a.schain.clone()), (Cpm(10_000), RunnerUp::OtherDsp, None));
    assert_eq!((a.tmax_default_ms, a.tmax_max_ms, a.network_ms, a.answer_ms), (100, 100, 8, 2));
    assert_eq!((a.dsp_ms, a.dsp_min_ms, a.dsp_network_ms, a.asked_max), (70, 10, 2, 10));
    let raw = RawRules { one_in: 0, keep_days: 7, keep_bytes: 16 << 30, keeps_personal_data: false };
    assert_eq!(config.raw, raw);
    assert_eq!((config.rates.id.as_str(), &config.rates.rates[..]), ("built-in", &[(Currency::USD, Rate::ONE)][..]));
    let exchange = &config.exchanges[0];
    assert_eq!((exchange.name.as_str(), exchange.path.as_str()), ("default", "/openrtb2/auction"));
    assert_eq!((config.exchanges.len(), config.dsps.len()), (1, 0));
}

#[test]
fn what_is_written_is_what_runs() {
    let text = r#"
node = 0x10
io_driver = "epoll"
[cpus]
bidders = [2, 3]
flush = 1
control = [0]
[auction]
increment = "0.000001"
dsp_ms = 50
[auction.schain]
asi = "exchange.example"
sid = "p-1"
[raw]
one_in = 1000
keep_bytes = 0x4000000
keeps_personal_data = true
[rates]
id = "2026-11-21"
accounting = "EUR"
table = { USD = 0.922800001, JPY = "0.0061" }
[[exchange]]
name = "one"
path = "/one"
currencies = ["USD", "EUR"]
no_bid = "nbr"
[[exchange]]
name = "two"
path = "/two"
[[dsp]]
name = "rich"
url = "http://[::1]:9001/bid?k=v"
headers = { x-openrtb-version = "2.6" }
media = ["video", "native"]
seats = ["s1"]
connections = 2
"#;
    let config = load(text, 1).unwrap();
    assert_eq!(config.node, Some(16));
    assert_eq!((config.cpus.bidders, config.cpus.flush, config.cpus.control), (vec![2, 3], Some(1), vec![0]));
    assert_eq!(config.auction.increment, Cpm(1));
    let raw = RawRules { one_in: 1000, keep_days: 7, keep_bytes: 1 << 26, keeps_personal_data: true };
    assert_eq!(config.raw, raw);
    assert_eq!(config.auction.schain.unwrap().sid, "p-1");
    let (eur, jpy) = (Currency(*b"EUR"), Currency(*b"JPY"));
    // Nine decimals survive, which a float would not promise.
    assert_eq!(config.rates.rates, [(eur, Rate::ONE), (jpy, Rate(6_100_000)), (Currency::USD, Rate(922_800_001))]);
    assert_eq!(config.exchanges[0].currencies, [Currency::USD, eur]);
    assert_eq!(config.exchanges[1].currencies, [eur], "the accounting currency is the default");
    let dsp = &config.dsps[0];
    assert_eq!((dsp.host.as_str(), dsp.port, dsp.path.as_str()), ("::1", 9001, "/bid?k=v"));
    assert_eq!(dsp.headers, [("x-openrtb-version".to_owned(), "2.6".to_owned())]);
    assert_eq!(dsp.media, Media::VIDEO.with(Media::NATIVE));
    assert_eq!((dsp.timeout_ms, dsp.warm, dsp.connections), (50, 2, 2), "defaults follow lower neighbours");
}

#[test]
fn keys_and_sections_that_do_not_exist() {
    check("listne = \"0.0.0.0:80\"", &[(1, "listne", Some("listen"))]);
    check("[http]\nhead_byte = 1", &[(2, "http.head_byte", Some("head_bytes"))]);
    check("[http]\nhead-bytes = 1", &[(2, "http.head-bytes", Some("head_bytes"))]);
    check("[htpp]\nhead_bytes = 1", &[(1, "htpp", Some("[http]"))]);
    check("[[dsps]]\nname = \"a\"", &[(1, "dsps", Some("[[dsp]]"))]);
    check("[auction.schian]\nasi = \"a.example\"", &[(1, "auction.schian", Some("[auction.schain]"))]);
    // In the wrong section, and the top's keys below a section.
    check("head_bytes = 8192", &[(1, "head_bytes", Some("http.head_bytes"))]);
    check("[http]\nstop_ms = 1", &[(2, "http.stop_ms", Some("stop_ms above all sections"))]);
    check("quux = 1", &[(1, "quux", None)]);
    check("[rates]\nEUR = 1.08", &[(2, "rates.EUR", Some("[rates.table] EUR = 1.08"))]);
    // Sections of the wrong shape.
    check("[[http]]\nslow_ms = 50", &[(1, "http", Some("[http]"))]);
    check("[dsp]\nname = \"a\"", &[(1, "dsp", Some("[[dsp]]"))]);
    check("http = 3", &[(1, "http", Some("[http]"))]);
}

#[test]
fn values_of_the_wrong_kind_or_range() {
    check("stop_ms = 99", &[(1, "stop_ms", Some("100"))]);
    check("stop_ms = -5", &[(1, "stop_ms", Some("100"))]);
    check("stop_ms = 99999999999999999999999", &[(1, "stop_ms", Some("3600000"))]);
    check("stop_ms = \"5000\"", &[(1, "stop_ms", Some("5000"))]);
    check("stop_ms = 5000.0", &[(1, "stop_ms", Some("5000"))]);
    check("stop_ms = true", &[(1, "stop_ms", None)]);
    check("[http]\n\nbody_bytes = 4194305", &[(3, "http.body_bytes", Some("4194304"))]);
    check("io_driver = \"iouring\"", &[(1, "io_driver", Some("\"io_uring\""))]);
    check("io_driver = \"EPOLL\"", &[(1, "io_driver", Some("\"epoll\""))]);
    check("io_driver = \"kqueue\"", &[(1, "io_driver", None)]);
    check("listen = \"localhost:8080\"", &[(1, "listen", Some("\"127.0.0.1:8080\""))]);
    check("listen = \":8080\"", &[(1, "listen", Some("\"0.0.0.0:8080\""))]);
    check("listen = 8080", &[(1, "listen", Some("\"0.0.0.0:8080\""))]);
    check("state_dir = \"./state\"", &[(1, "state_dir", Some("\"/state\""))]);
    check("[cpus]\nbidders = [1, 2, 1]", &[(2, "cpus.bidders", None)]);
    check("[cpus]\nbidders = []", &[(2, "cpus.bidders", None)]);
    check("[cpus]\nbidders = 3", &[(2, "cpus.bidders", Some("[3]"))]);
    check("[auction]\nincrement = -0.01", &[(2, "auction.increment", None)]);
    check("[auction]\nincrement = 0.0000001", &[(2, "auction.increment", Some("\"0\""))]);
    check("[auction]\nincrement = 1e9", &[(2, "auction.increment", None)]);
    check("[auction]\nincrement = nan", &[(2, "auction.increment", None)]);
    check("[rates]\nid = 2026-11-21", &[(2, "rates.id", Some("\"2026-11-21\""))]);
    check("[rates]\naccounting = \"usd\"", &[(2, "rates.accounting", Some("\"USD\""))]);
    check("[rates.table]\neur = 1.1\nGBP = 0", &[(2, "rates.table.eur", Some("EUR")), (3, "rates.table.GBP", None)]);
}

/// A dotted key at the first byte makes a table there: it was taken for a value that the parser had put, and passed over.
#[test]
fn the_first_byte_may_begin_a_mistake() {
    for text in ["admin.x = 1", "listen.x = 1\nnode = 1", "listen.a.b = 1"] {
        let key = text.split('.').next().unwrap();
        check(text, &[(1, key, None)]);
        check(&format!("\n{text}"), &[(2, key, None)]);
    }
}

#[test]
fn exchanges() {
    check("[[exchange]]", &[(1, "exchange.name", None), (1, "exchange.path", None)]);
    let one = "[[exchange]]\nname = \"one\"\npath = \"/one\"\n";
    check(one, &[]);
    check(&format!("{one}{one}"), &[(5, "exchange.name", None), (6, "exchange.path", None)]);
    let path = |p: &str| format!("[[exchange]]\nname = \"one\"\npath = \"{p}\"");
    check(&path("one"), &[(3, "exchange.path", Some("\"/one\""))]);
    check(&path("/metrics"), &[(3, "exchange.path", Some("\"/openrtb2/metrics\""))]);
    check(&path("/notice/x"), &[(3, "exchange.path", Some("\"/openrtb2/notice/x\""))]);
    check(&path("/noticed"), &[]);
    check(&path("/a?b=c"), &[(3, "exchange.path", None)]);
    check(&path("/a b"), &[(3, "exchange.path", None)]);
    check("[[exchange]]\nname = \"One!\"\npath = \"/\"", &[(2, "exchange.name", Some("\"one_\""))]);
    check(&format!("{one}position = \"lastauction\""), &[(4, "exchange.position", Some("\"last_auction\""))]);
    check(&format!("{one}currencies = [\"USD\",\n\"EUR\"]"), &[(5, "exchange.currencies", None)]);
    let many: String = (0..65).map(|i| format!("[[exchange]]\nname = \"e{i}\"\npath = \"/{i}\"\n")).collect();
    check(&many, &[(64 * 3 + 1, "exchange", None)]);
}

#[test]
fn notices() {
    let url = |url: &str| format!("[notices]\nurl = \"{url}\"");
    for good in ["https://bid.example", "http://bid.example:8080/x", "https://[::1]:8443"] {
        check(&url(good), &[]);
    }
    check(&url("https://bid.example/"), &[(2, "notices.url", Some("\"https://bid.example\""))]);
    check(&url("https://bid.example/notice"), &[(2, "notices.url", Some("\"https://bid.example\""))]);
    for bad in [
        "bid.example",
        "ftp://bid.example",
        "https://",
        "https://bid.example/?a=",
        "https://a b",
        "https://bid.example/$",
    ] {
        check(&url(bad), &[(2, "notices.url", None)]);
    }
    check(&url(&format!("https://bid.example/{}", "x".repeat(110))), &[(2, "notices.url", None)]);
    let ours = url("https://bid.example");
    let none = "[record]\ndurability = \"none\"\n";
    check(none, &[]);
    check(&format!("{none}{ours}"), &[(4, "record.durability", Some("\"process\""))]);
    check(&format!("[http]\nhead_bytes = 4095\n{ours}"), &[(4, "http.head_bytes", Some("4096"))]);
    let exchange = "[[exchange]]\nname = \"one\"\npath = \"/one\"\n";
    check(&format!("{exchange}notices = \"wrap\""), &[(4, "exchange.notices", Some("\"pass\""))]);
    check(&format!("{exchange}notices = \"pass\""), &[]);
    let settles = format!("{exchange}settle = \"notice\"\n");
    check(&settles, &[(4, "exchange.settle", Some("\"auction\""))]);
    check(&format!("{ours}\n{settles}notices = \"pass\""), &[(6, "exchange.settle", Some("\"auction\""))]);
    let exchange_of = |text: &str| load(text, 1).unwrap().exchanges[0].clone();
    let settled = exchange_of(&format!("{ours}\n{settles}notices = \"wrap\""));
    assert_eq!(
        (settled.settle, settled.notices),
        (Settle::Notice, Wrapping::WrapOrRefuse),
        "or it could not be charged"
    );
    let peers = |list: &str| format!("{ours}\nkeys = \"/k\"\npeers = [{list}]\n");
    assert_eq!(
        load(&peers("\"dcda7f1d=10.0.0.7:8080\""), 1).unwrap().notices.peers,
        [(0xdcda_7f1d, ("10.0.0.7".to_owned(), 8080))]
    );
    check(&peers("\"1=10.0.0.7:8080\""), &[(4, "notices.peers", None)]);
    check(&format!("{ours}\npeers = [\"dcda7f1d=a\"]\n"), &[(3, "notices.peers", None)]);
    let fetches = format!("{exchange}markup = \"fetch\"\n");
    check(&fetches, &[(4, "exchange.markup", Some("\"pass\""))]);
    check(&format!("{ours}\n{fetches}"), &[]);
    check(&format!("{ours}\n{fetches}position = \"intermediate\""), &[(6, "exchange.markup", Some("\"pass\""))]);
    let wrapping = |text: &str| load(text, 1).unwrap().exchanges[0].notices;
    assert_eq!((wrapping(""), wrapping(&ours)), (Wrapping::Pass, Wrapping::Wrap));
    assert_eq!(wrapping(&format!("{ours}\n{exchange}notices = \"wrap_or_refuse\"")), Wrapping::WrapOrRefuse);
    let hosts = |text: &str| {
        let hosts = load(text, 1).unwrap().dsps[0].notice_hosts.clone();
        hosts.iter().map(Host::url).collect::<Vec<_>>()
    };
    assert_eq!(hosts(DSP), ["http://a.example:80"]);
    let secure = DSP.replace("http:", "https:");
    assert_eq!(hosts(&secure), ["https://a.example:443"]);
    let listed = |list: &str| format!("{DSP}notice_hosts = [{list}]\n");
    let named =
        listed("\"Win.a.example:8080\", \"b.example\", \"HTTPS://C.example\", \"http://[::1]:1\", \"https://d:9\"");
    let all =
        ["http://win.a.example:8080", "http://b.example:80", "https://c.example:443", "http://[::1]:1", "https://d:9"];
    assert_eq!(hosts(&named), all);
    let nearest = |written: &str, nearest: &'static str| {
        check_dsp(&format!("notice_hosts = [\"{written}\"]"), &[(1, "dsp.notice_hosts", Some(nearest))]);
    };
    nearest("http://w.a.example:1/x", "\"http://w.a.example:1\"");
    nearest("https://w.a.example/x?y", "\"https://w.a.example\"");
    nearest("a.example/x", "\"a.example\"");
    for wrong in ["ftp://a.example", "a.example:0", "https://", "https://a@b.example", ""] {
        check_dsp(&format!("notice_hosts = [\"{wrong}\"]"), &[(1, "dsp.notice_hosts", None)]);
    }
    // Certificates are looked at as the DSP's own are, and of one host in one way.
    let dsp = |text: &str| load(text, 1).unwrap().dsps[0].clone();
    let (ca, any) = ("ca_file = \"/ca\"\n", "danger_accept_any_certificate = true\n");
    let won = listed("\"https://w.a.example\"");
    assert_eq!((dsp(&won).tls, dsp(&won).notice_tls), (None, Some(TlsRules::System)));
    assert_eq!(dsp(&format!("{won}{ca}")).notice_tls, Some(TlsRules::File("/ca".into())));
    assert_eq!((dsp(&secure).tls, dsp(&secure).notice_tls), (Some(TlsRules::System), Some(TlsRules::System)));
    let plain = format!("{secure}notice_hosts = [\"a.example\"]\n");
    assert_eq!((dsp(&plain).tls, dsp(&plain).notice_tls), (Some(TlsRules::System), None));
    let loud = load(&format!("{won}{any}"), 1).unwrap();
    assert_eq!(loud.unverified().count(), 1, "also where only notices are told to whoever answers");
    check(&format!("{DSP}{ca}"), &[(4, "dsp.ca_file", None)]);
    let twin = won.replace("\"a\"", "\"b\"");
    check(&format!("{won}{twin}"), &[]);
    check(&format!("{won}{twin}{ca}"), &[(5, "dsp.ca_file", None)]);
    check(&format!("{won}{ca}{twin}{ca}"), &[]);
    // What the one asks by TLS is nothing to the other.
    check(&format!("{secure}{ca}notice_hosts = [\"a.example\"]\n{}", DSP.replace("\"a\"", "\"b\"")), &[]);
    let other = DSP.replace("\"a\"", "\"b\"").replace("a.example/", "a.example/other");
    check(&format!("{DSP}{other}"), &[]);
    check(&format!("{DSP}{other}price_keys = \"/k\""), &[(4, "dsp.price_keys", None)]);
    check(&format!("{DSP}price_keys = \"/k\"\n{other}price_keys = \"/k\""), &[]);
    check(&format!("{DSP}{other}price_keys = \"/k\"\nnotice_hosts = [\"b.example\"]"), &[]);
}

#[test]
fn dsps() {
    check_dsp("", &[]);
    check("[[dsp]]", &[(1, "dsp.name", None), (1, "dsp.url", None)]);
    check(&format!("{DSP}{DSP}"), &[(5, "dsp.name", None)]);
    let many: String = (0..65).map(|i| DSP.replace("\"a\"", &format!("\"d{i}\""))).collect();
    check(&many, &[(64 * 3 + 1, "dsp", None)]);
    let url = |u: &str| format!("[[dsp]]\nname = \"a\"\nurl = \"{u}\"");
    check(&url("dsp.example/bid"), &[(3, "dsp.url", Some("\"http://dsp.example/bid\""))]);
    check(&url("ftp://dsp.example/bid"), &[(3, "dsp.url", None)]);
    let tls = |u: &str, more: &str| {
        let config = load(&format!("{}\n{more}", url(u)), 1).unwrap();
        (config.dsps[0].port, config.dsps[0].tls.clone())
    };
    assert_eq!(tls("http://dsp.example/bid", ""), (80, None));
    assert_eq!(tls("https://dsp.example/bid", ""), (443, Some(TlsRules::System)));
    assert_eq!(tls("HTTPS://[::1]/bid", ""), (443, Some(TlsRules::System)));
    let file = "ca_file = \"/etc/ca.pem\"";
    assert_eq!(tls("https://dsp.example:8443/bid", file), (8443, Some(TlsRules::File("/etc/ca.pem".into()))));
    let anybody = "danger_accept_any_certificate = true";
    assert_eq!(tls("https://dsp.example/bid", anybody), (443, Some(TlsRules::Anybody)));
    check(&format!("{}\n{file}\n{anybody}", url("https://a/")), &[(5, "dsp.danger_accept_any_certificate", None)]);
    check_dsp(file, &[(1, "dsp.ca_file", None)]);
    check_dsp(anybody, &[(1, "dsp.danger_accept_any_certificate", None)]);
    check_dsp("danger_accept_any_certificate = false", &[]);
    check_dsp("media = [\"vidoe\", \"banner\"]", &[(1, "dsp.media", Some("\"video\""))]);
    check_dsp("media = []", &[(1, "dsp.media", None)]);
    check_dsp("media = \"video\"", &[(1, "dsp.media", Some("[\"video\"]"))]);
    check_dsp("gzip = \"yes\"", &[(1, "dsp.gzip", Some("true"))]);
    check_dsp("buyeruid = \"mpa\"", &[(1, "dsp.buyeruid", Some("\"map\""))]);
    check_dsp("warm = 20\nconnections = 10", &[(1, "dsp.warm", Some("10"))]);
    check_dsp("timeout_ms = 71", &[(1, "dsp.timeout_ms", Some("70"))]);
    check_dsp("timeout_ms = 9", &[(1, "dsp.timeout_ms", Some("10"))]);
    check_dsp("currencies = [\"USB\"]", &[(1, "dsp.currencies", Some("\"USD\""))]);
    check_dsp("timeout = 50", &[(1, "dsp.timeout", Some("timeout_ms"))]);
    check_dsp("headers = { Host = \"x\" }", &[(1, "dsp.headers.Host", None)]);
    check_dsp("headers = { Content-Length = \"x\" }", &[(1, "dsp.headers.Content-Length", None)]);
    check_dsp("headers = { \"a b\" = \"x\" }", &[(1, "dsp.headers.a b", None)]);
    check_dsp("headers = { a = \"x\\r\\ny: z\" }", &[(1, "dsp.headers.a", None)]);
    check_dsp("headers = { a = \"x\", A = \"y\" }", &[(1, "dsp.headers.a", None)]);
    check_dsp("[dsp.headers]\nx-a = 1", &[(2, "dsp.headers.x-a", None)]);
}

#[test]
fn rules_between_keys() {
    check("admin = \"0.0.0.0:8080\"", &[(1, "admin", Some("\"0.0.0.0:9090\""))]);
    check("listen = \"0.0.0.0:9090\"", &[(1, "listen", Some("\"0.0.0.0:9091\""))]);
    check("listen = \"10.0.0.1:80\"\nadmin = \"10.0.0.2:80\"", &[]);
    check("[cpus]\nbidders = [1, 2]\nbidder_count = 3", &[(3, "cpus.bidder_count", Some("2"))]);
    check("[auction]\ntmax_default_ms = 101", &[(2, "auction.tmax_default_ms", Some("100"))]);
    check("[auction]\ntmax_max_ms = 80", &[]);
    check("[auction]\ntmax_max_ms = 79", &[(2, "auction.tmax_max_ms", Some("tmax_max_ms = 80"))]);
    check("[auction]\ndsp_ms = 95", &[(2, "auction.dsp_ms", Some("dsp_ms = 90"))]);
    check("[auction]\nnetwork_ms = 30", &[(2, "auction.network_ms", Some("network_ms = 28"))]);
    check("[auction]\ndsp_min_ms = 70", &[(2, "auction.dsp_min_ms", Some("69"))]);
    check("[auction]\ndsp_ms = 10", &[(2, "auction.dsp_ms", Some("11"))]);
    check("[auction]\nasked_max = 17", &[(2, "auction.asked_max", Some("16"))]);
    check("[auction]\ndsp_network_ms = 10", &[(2, "auction.dsp_network_ms", Some("9"))]);
    check("[auction.schain]\nname = \"x\"", &[(1, "auction.schain.asi", None), (1, "auction.schain.sid", None)]);
    check(
        "[auction.schain]\nasi = \"https://X.example/\"\nsid = \"1\"",
        &[(2, "auction.schain.asi", Some("\"x.example\""))],
    );
    check("[rates]\n[rates.table]\nUSD = 2", &[(2, "rates.table.USD", Some("1"))]);
    // A wrong table is one mistake: that its currencies lack a rate is none.
    check_dsp("currencies = [\"EUR\"]\n[rates]\ntable = { EUR = \"x\" }", &[(3, "rates.table.EUR", None)]);
    // A default that no longer fits is told where the operator wrote.
    check(&format!("[auction]\ndsp_ms = 80\ndsp_min_ms = 75\n{DSP}"), &[(3, "auction.dsp_min_ms", Some("70"))]);
}

#[test]
fn broken_syntax_hides_only_what_hangs_on_it() {
    check("\u{feff}stop_ms = 1\r\n\r\nio_driver = 1\r\n", &[(1, "stop_ms", Some("100")), (3, "io_driver", None)]);
    check("listen = ", &[(1, "", None)]);
    check("listen = \"0.0.0.0:80", &[(1, "", None)]);
    check("listen\nstop_ms = 1", &[(1, "", None), (2, "stop_ms", Some("100"))]);
    check("stop_ms = 1000\nstop_ms = 2000", &[(2, "", None)]);
    check("[http]\n[http]", &[(2, "", None)]);
    // The parser puts a value of its own, which stands nowhere, in place of the one it could not read.
    check("\n[[exchange]]\nname == [1]\npath = \"/\"", &[(3, "", None)]);
    check("\nhttp == [1]", &[(2, "", None)]);
    check("stop_ms = 1\n[http\nhead_byte = 1", &[(1, "stop_ms", Some("100")), (2, "", None)]);
    // The url may be what was meant by the broken line: that it is missing is not told.
    check("[[dsp]]\nname = \"a\"\nurl = http://x/", &[(3, "", None)]);
    let duplicate = load("stop_ms = 1000\nstop_ms = 2000", 1).unwrap_err();
    assert_eq!(
        duplicate[0].to_string(),
        "line 2, column 1: found duplicate key at stop_ms; allowed: each key and section once"
    );
}

#[test]
fn eleven_mistakes_are_told_at_once() {
    let text = r#"
listne = "0.0.0.0:8080"
io_driver = "uring"
stop_ms = 0

[http]
head_bytes = 1000000
slow = 5000

[auction]
dsp_ms = 95

[[exchange]]
name = "Exchange One"
path = "openrtb2"

[[dsp]]
name = "d"
url = "ftp://dsp.example/bid"
timeout_ms = 96
media = ["banner", "vido"]
"#;
    check(
        text,
        &[
            (2, "listne", Some("listen")),
            (3, "io_driver", Some("\"io_uring\"")),
            (4, "stop_ms", Some("100")),
            (7, "http.head_bytes", Some("65536")),
            (8, "http.slow", Some("slow_ms")),
            (11, "auction.dsp_ms", Some("dsp_ms = 90")),
            (14, "exchange.name", Some("\"exchange_one\"")),
            (15, "exchange.path", Some("\"/openrtb2\"")),
            (19, "dsp.url", None),
            (20, "dsp.timeout_ms", Some("95")),
            (21, "dsp.media", Some("\"video\"")),
        ],
    );
    let lines: Vec<String> = load(text, 1).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines[3],
        "line 7, column 14: http.head_bytes: found 1000000; allowed: 256 to 65536 bytes; did you mean `65536`?"
    );
    assert!(lines.iter().all(|l| !l.contains('\n')));
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\[\\[?)?(dsp|http|rates|rates\\.table|x)?\\]{0,2}\n?[a-z_]{0,6} ?= ?[\\PC\n]{0,40}") {
        let _ = load(&text, 1);
    }

    /// Files that are nearly right reach further than noise does.
    #[test]
    fn no_cut_or_change_of_a_whole_file_panics(at in 0usize..12_000, byte in any::<char>()) {
        let mut text: String = crate::config::default_toml();
        let at = (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.insert(at, byte);
        let _ = load(&text, 1);
        text.truncate(at);
        let _ = load(&text, 1);
    }
}

#[test]
fn house_ads() {
    let ad =
        |more: &str| format!("[[house]]\ncrid = \"a\"\nmedia = \"banner\"\nadm = \"<b>\"\nmax_price = \"0.1\"\n{more}");
    let house = load(&ad("w = 300\nh = 250\nadomain = [\"own.example\"]\n"), 1).unwrap().house;
    assert_eq!((house.len(), house[0].size, house[0].max_price), (1, (300, 250), Cpm(100_000)));
    check(&ad(""), &[(1, "house.w", None)]);
    check(&format!("{0}{0}", ad("w = 1\nh = 1\n")), &[(9, "house.crid", None)]);
    check(
        "[[house]]\ncrid = \"a\"\nmedia = \"banne\"\nadm = \"x\"\nmax_price = 1\n",
        &[(3, "house.media", Some("\"banner\""))],
    );
}
