//! Names of DSPs, over real sockets and with a real name server: all addresses are used, changes are taken up while auctions go on,
//! and a server that fails changes nothing.
mod common;
use common::{Server, bid_for, bidder, markup, outcomes, serve};
use outcry::{openrtb::codes::Outcome, record::labels::Counter};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const RULES: &str = "[auction]\ntmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\n";
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a name server says: addresses, or an error.
type Says = Arc<Mutex<Result<Vec<Ipv4Addr>, u8>>>;

fn say(says: &Says, what: Result<Vec<Ipv4Addr>, u8>) {
    *says.lock().unwrap_or_else(PoisonError::into_inner) = what;
}

/// A name server of one name, whose answers live for a second.
fn name_server(says: Says) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let addr = socket.local_addr().expect("addr");
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            let says = says.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut answer = question[..len].to_vec();
            let is_a = question[len - 4..len] == [0, 1, 0, 1];
            let (code, addresses) = says.map_or_else(|code| (code, Vec::new()), |addresses| (0, addresses));
            answer[2..4].copy_from_slice(&[0x81, 0x80 | code]);
            for address in addresses.iter().filter(|_| is_a) {
                answer[7] += 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                answer.extend_from_slice(&address.octets());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    addr
}

/// A DSP at one of several addresses.
#[derive(Clone, Default)]
struct Place {
    made: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Place {
    fn at(ip: IpAddr, port: u16) -> (Place, u16) {
        let listener = TcpListener::bind((ip, port)).expect("bind");
        let port = listener.local_addr().expect("addr").port();
        let place = Place::default();
        let here = place.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                let open = Arc::clone(&here.open);
                here.made.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _ = serve(stream, bidder);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        (place, port)
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// Auctions, each with a bid, until this holds; how many.
fn auctions_until(server: &Server, what: &str, holds: impl Fn() -> bool) -> u64 {
    let (mut conn, mut n) = (server.connect(), 0);
    let by = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < by, "never: {what}");
        n += 1;
        let answer = bid_for(&mut conn, &format!("r-{n}"));
        assert!(markup(&answer).contains("x.example"), "{answer}");
    }
    n
}

#[test]
fn a_dsp_that_moves_is_followed_while_auctions_go_on() {
    let [one, two, three] = [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let says: Says = Arc::new(Mutex::new(Ok(vec![one, two])));
    let dns = name_server(Arc::clone(&says));
    let (first, port) = Place::at(one.into(), 0);
    let (second, _) = Place::at(two.into(), port);
    let (third, _) = Place::at(three.into(), port);
    let rules = format!("{RULES}[dns]\nservers = [\"{dns}\"]\nttl_min_s = 1\n");
    let dsp = format!("http://dsp.test:{port}/bid");
    let server = Server::start_urls(&[(dsp, "timeout_ms = 8000\nwarm = 4\n")], &rules);
    assert_eq!((first.made(), second.made(), third.made()), (2, 2, 0), "each in turn");

    say(&says, Ok(vec![two, three]));
    let mut all = auctions_until(&server, "gone from the first", || first.open() == 0);
    assert!(third.open() > 0 && second.open() > 0, "{} {}", third.open(), second.open());
    // There has been a spare all the time: the old connections went when the new ones were there.
    let count = |counter| server.handle().totals().counter(counter);
    say(&says, Err(2));
    all += auctions_until(&server, "a failure is counted", || count(Counter::NamesFailed) > 0);
    assert_eq!((first.open(), count(Counter::NamesMoved)), (0, 1));
    let totals = server.totals();
    assert_eq!(outcomes(&totals, 0), [(Outcome::Bid, all)]);
    assert_eq!((totals.counter(Counter::AuctionOpened), totals.dsp_opened(0)), (0, 0));
}

/// Half of a DSP's addresses are dead: that costs no bid.
#[test]
fn an_address_where_nobody_is_costs_no_bid() {
    let (place, port) = Place::at(Ipv4Addr::new(127, 0, 0, 1).into(), 0);
    let says: Says = Arc::new(Mutex::new(Ok([1, 9].map(|last| Ipv4Addr::new(127, 0, 0, last)).to_vec())));
    let dns = name_server(says);
    let rules = format!("{RULES}[dns]\nservers = [\"{dns}\"]\n");
    let dsp = format!("http://dsp.test:{port}/bid");
    let server = Server::start_urls(&[(dsp, "timeout_ms = 8000\nwarm = 4\n")], &rules);
    let left = std::cell::Cell::new(50);
    let all = auctions_until(&server, "fifty", || left.replace(left.get() - 1) == 0);
    let totals = server.totals();
    assert_eq!(outcomes(&totals, 0), [(Outcome::Bid, all)]);
    assert!(totals.counter(Counter::DspFailed) > 0 && place.made() >= 4);
    assert_eq!(totals.dsp_opened(0), 0);
}

/// Whoever owns a host's name may not lead us inside with it, where its path would be of a bid's choosing: a name that was outside
/// stays there. What it says beside is taken up.
#[test]
fn a_name_does_not_lead_inside() {
    let (here, out) = (Ipv4Addr::new(127, 0, 0, 1), [1, 2].map(|last| Ipv4Addr::new(203, 0, 113, last)));
    let (place, port) = Place::at(here.into(), 0);
    let says: Says = Arc::new(Mutex::new(Ok(vec![out[0]])));
    let dns = name_server(Arc::clone(&says));
    let rules = format!("{RULES}[dns]\nservers = [\"{dns}\"]\nttl_min_s = 1\n");
    let dsp = format!("http://dsp.test:{port}/bid");
    let server = Server::start_urls(&[(dsp, "warm = 0\n")], &rules);
    let until = |what: &str, counter: Counter| {
        let by = Instant::now() + PATIENCE;
        while server.handle().totals().counter(counter) == 0 {
            assert!(Instant::now() < by, "never: {what}");
            std::thread::yield_now();
        }
    };
    say(&says, Ok(vec![here]));
    until("it is not believed", Counter::NamesFailed);
    say(&says, Ok(vec![out[1], here, Ipv4Addr::new(169, 254, 169, 254)]));
    until("the rest is", Counter::NamesMoved);
    bid_or_not(&server);
    assert_eq!(place.made(), 0);
}

/// An auction, whatever it comes to: it has asked whom it could.
fn bid_or_not(server: &Server) {
    use std::io::Write;
    let mut conn = server.connect();
    conn.write_all(common::post(&common::request("r-1"), "").as_bytes()).expect("write");
    assert!(common::read_answer(&mut conn).status < 300);
}

/// A name that nobody knows is told at the start, and whose it is.
#[test]
fn a_name_that_nobody_knows_is_told() {
    let dns = name_server(Arc::new(Mutex::new(Ok(Vec::new()))));
    let dir = std::env::temp_dir().join(format!("outcry-test-names-{}", std::process::id()));
    let text = format!(
        "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[cpus]\nbidder_count = 1\n\
         [record]\n{}[dns]\nservers = [\"{dns}\"]\n[[dsp]]\nname = \"lost\"\nurl = \"http://dsp.test:1/\"\n",
        dir.display(),
        common::SMALL
    );
    let why = outcry_cores::boot::start(&text).err().map(|e| e.to_string()).unwrap_or_default();
    let _ = std::fs::remove_dir_all(&dir);
    assert!(why.contains("lost") && why.contains("dsp.test"), "{why}");
}
