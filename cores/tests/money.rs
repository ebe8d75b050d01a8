//! Money over sockets: an exchange with budgets, asked for more than they hold, judged by its answers.
mod common;
use common::{Answer, bidder, connect, post, read_answer};
use outcry::{
    budget::{
        AccountId,
        granter::End,
        manage::{Act, Changes, Operation},
        movement::By,
    },
    config::{self, Config},
    units::{Money, Now},
};
use outcry_cores::{
    boot::{self, Exchange},
    money::{api::Manager, ledger::Ledger},
};
use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// A state directory, and an exchange's configuration over it.
struct World {
    dir: PathBuf,
    dsp: SocketAddr,
}

static NEXT: AtomicU64 = AtomicU64::new(0);
/// What [`bidder`] bids, for one impression: 1.50 CPM.
const BID: Money = Money(1_500_000);

fn now() -> Now {
    outcry_cores::bidder::turn::now()
}

impl World {
    fn new() -> World {
        let name = format!("outcry-money-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a directory");
        World { dir, dsp: common::dsp(bidder) }
    }

    fn text(&self, cores: usize) -> String {
        format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[cpus]\nbidder_count = {cores}\n\
             [auction]\ntmax_max_ms = 60000\ndsp_ms = 30000\n[record]\n{}\n[[exchange]]\nname = \"first\"\n\
             path = \"/openrtb2/auction\"\n[[dsp]]\nname = \"dsp-0\"\nurl = \"http://{}/bid\"\ntimeout_ms = 30000\nwarm = 2\n",
            self.dir.display(),
            common::SMALL,
            self.dsp
        )
    }

    fn config(&self) -> Config {
        config::load(&self.text(1), 1).expect("it may run")
    }

    /// One campaign with this budget a day, under an advertiser with ten times that.
    fn campaign(&self, daily: Money) {
        let mut ledger = Ledger::open(&self.config(), now).expect("a ledger");
        let changes = |daily| Changes { daily: Some(Money(daily)), ..Changes::default() };
        let mut operate = |account: &str, act| {
            let operation =
                Operation { account: account.to_owned(), act, currency: None, who: "a test".to_owned(), by: By::Admin };
            ledger.apply(&operation).expect("it may be").expect("a change");
        };
        operate("shoes", Act::AddAdvertiser(changes(10 * daily.0)));
        operate(
            "boots",
            Act::AddCampaign {
                advertiser: "shoes".to_owned(),
                dsp: "dsp-0".to_owned(),
                seat: "s".to_owned(),
                cid: "k".to_owned(),
                changes: changes(daily.0),
            },
        );
    }

    fn start(&self, cores: usize) -> Exchange {
        boot::start(&self.text(cores)).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What the ledger says of the campaign when the exchange has stopped and a next start has settled: spent for good, and
    /// whether anything of it is still out.
    fn books(&self) -> (i64, bool) {
        let ledger = Ledger::open(&self.config(), now).expect("a ledger");
        let campaign = ledger.tree().named("boots").expect("it was made").id;
        assert_ne!(campaign, AccountId::NONE);
        let lines: Vec<_> = ledger.granter().lines(campaign, now().boot_ns).collect();
        let spent = lines.iter().map(|l| l.line.charged.0 - l.line.freed.0).sum();
        (spent, lines.iter().any(|l| l.line.end == End::Open))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Asks until two seconds brought no win; how many there were.
fn drain(listen: SocketAddr) -> i64 {
    let body =
        r#"{"id":"r-1","tmax":60000,"imp":[{"id":"1","banner":{"w":300,"h":250}}],"site":{"domain":"a.example"}}"#;
    let mut conn = connect(listen);
    let (mut won, mut last) = (0, now().boot_ns);
    while now().boot_ns - last < 8_000_000_000 {
        conn.write_all(post(body, "").as_bytes()).expect("write");
        let answer: Answer = read_answer(&mut conn);
        if answer.status == 200 {
            let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert!(answer["seatbid"][0]["bid"][0]["price"].as_f64().expect("a price") <= 1.5);
            won += 1;
            last = now().boot_ns;
        }
    }
    won
}

#[test]
fn a_budget_is_spent_to_its_last_bid_and_never_beyond() {
    let world = World::new();
    // A second-price auction with one bidder and no floor costs the increment: a hundredth.
    world.campaign(Money(200 * 10_000));
    let exchange = world.start(1);
    let won = drain(exchange.listen());
    exchange.stop().expect("in order");
    let (spent, _) = world.books();
    assert_eq!(spent, won * 10_000, "every win was charged, once");
    assert!(spent <= 200 * 10_000, "{spent}");
    // Less than one bid is left: the bid, not the price, has to be payable.
    assert!(spent + BID.0 > 200 * 10_000, "{spent}");
    // The next start settles what the last one held, from its record.
    let exchange = world.start(1);
    let more = drain(exchange.listen());
    exchange.stop().expect("in order");
    let (spent, _) = world.books();
    assert_eq!(spent, (won + more) * 10_000);
    assert!(spent <= 200 * 10_000, "{spent}");
}
