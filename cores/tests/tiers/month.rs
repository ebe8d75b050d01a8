//! A million wins, and one advertiser's month out of them.
use super::{
    NODE, Scratch, advertiser, event, export, id,
    ids::opened,
    outcry, settings, stores, sum,
    written::{kept, templates},
};
use outcry::{
    auction::record,
    journal::{
        PAGE,
        writer::{Class, Refusal},
    },
    record::frame::{self, Header, Kind},
    units::{Now, mix},
};
use outcry_cores::{
    journal::{Journal, StdDisk},
    tiers::store::Store,
};

/// A big table, and one advertiser's month out of it, on a store that nothing else is asked of. Prints what it takes.
#[test]
#[ignore = "minutes: scripts/tiers --month"]
fn a_month_of_an_advertiser_takes_seconds() {
    const FIRST_MS: u64 = 1_767_225_600_000;
    const MONTH_MS: u64 = 31 * 86_400_000;
    const ADVERTISERS: u64 = 200;
    let auctions: u64 = std::env::var("OUTCRY_TEST_MONTH").map_or(1_000_000, |n| n.parse().expect("a number"));
    let dir = Scratch::new("month");
    let disk = StdDisk::new(&dir.0, NODE).expect("a disk");
    // A batch of four hours is one segment.
    let mut settings = settings();
    settings.writer.block_bytes = 64 * PAGE;
    settings.writer.segment_bytes = (auctions / (31 * 6) * 1000).next_multiple_of(PAGE as u64);
    settings.writer.segment_bytes = settings.writer.segment_bytes.max(settings.writer.segment_bytes_min());
    let (mut journal, _) = Journal::open(disk, settings).expect("an empty directory");
    let templates = templates();
    let one = templates.iter().find(|r| !r.decision.wins.is_empty()).expect("one that somebody won");
    let (mut bytes, mut payload, mut wins, mut charge) = (Vec::new(), Vec::new(), 0u64, 0i64);
    for n in 1..=auctions + 1 {
        let ms = FIRST_MS + MONTH_MS / (auctions + 1) * (n - 1);
        payload.clear();
        let whose = mix(n) % ADVERTISERS;
        let mut record = one.clone();
        (record.inputs.event, record.inputs.wall_ms) = (event(n), ms);
        record.inputs.request_id = kept(&mut record.inputs.texts, &id(n));
        let adomain = kept(&mut record.inputs.texts, &format!("advertiser-{whose:03}.example"));
        for win in &record.decision.wins {
            record.inputs.bids[usize::from(win.input)].adomain = adomain;
            let ours = u64::from(whose == 7 && n <= auctions);
            (wins, charge) = (wins + ours, charge + ours as i64 * win.charge.0);
        }
        record.encode(&mut payload);
        bytes.clear();
        let at = frame::begin(&mut bytes);
        bytes.extend_from_slice(&payload);
        // The last one is of February: it closes the month.
        let hlc = if n > auctions { FIRST_MS + MONTH_MS + 100_000 } else { ms } << 16;
        let header = Header { seq: n, epoch: 1, writer: 0, kind: Kind::Auction as u8, version: record::VERSION, hlc };
        frame::finish(&mut bytes, at, &header);
        let frame = frame::decode(&bytes).expect("a frame");
        while let Err(e) = journal.push(&frame, Class::Ordinary) {
            assert!(matches!(e, Refusal::Busy | Refusal::Preparing), "{e}");
            journal.turn(Now::default());
        }
    }
    while journal.durable_positions().get((1, 0)) < auctions + 1 {
        journal.turn(Now::default());
    }
    drop(journal);
    for at in stores("month") {
        let began = std::time::Instant::now();
        let (code, out, err) = export(&dir, &at, &["--segments", "1"]);
        assert_eq!(code, 0, "{out}{err}");
        println!("{}: exported in {:.0} s: {out}", at.url, began.elapsed().as_secs_f64());
        let store = Store::open(&at.url, false).expect("a store");
        let rows = store.list("wins", None).expect("a list");
        let empty = Scratch::new("month-empty");
        for more in [&["--totals"][..], &[]] {
            let began = std::time::Instant::now();
            let month = ["--from", "2026-01-01", "--to", "2026-01-31", "--tiers", &at.url];
            let (code, out, err) = advertiser(&empty, "advertiser-007.example", &[&month[..], more].concat());
            let took = began.elapsed().as_secs_f64();
            assert_eq!((code, sum(&out)), (0, (wins, outcry::units::Money(charge).to_string())), "{err}");
            println!(
                "{wins} wins of {auctions} auctions in {took:.2} s{}; of {} files of rows, {} bytes: {err}",
                if more.is_empty() { ", all of them printed" } else { ", totals" },
                rows.len(),
                rows.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            );
            assert!(took < 10.0, "{took} s");
        }
        for text in [id(auctions / 3), event(auctions / 2).to_string(), "nobody".to_string()] {
            let began = std::time::Instant::now();
            let (code, _, err) = outcry(&["audit", "request", &text, empty.str(), "--tiers", &at.url]);
            println!("{text}: exit code {code} in {:.2} s: {err}", began.elapsed().as_secs_f64());
            assert!(opened(&err).1 <= 6, "{err}");
        }
        let indices = store.list("cold", None).expect("a list").into_iter().filter(|(name, _)| name.contains("/ids-"));
        println!("{} bytes are the index of ids", indices.map(|(_, bytes)| bytes).sum::<u64>());
    }
}
