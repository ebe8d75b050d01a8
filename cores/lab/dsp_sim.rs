//! A simulated DSP: an HTTP server that bids by its character, after its delay.
//! Owns: its connections. Runs on: its own thread, one runtime. Called by: the command line, `demo`, tests.
//! Never: has two requests of one connection in progress; the next waits in the socket, as HTTP/1.1 wants it.
//! Full: above [`CONNECTIONS_MAX`] new connections are closed at once and counted; a request above
//! [`REQUEST_BYTES_MAX`] ends its connection.
//!
//! Delays have the resolution of the runtime's timer, a millisecond, and end up to one late.
use super::{
    bids,
    character::{Character, Wrong},
    hostile::Hostile,
    http::{Frame, Kind, Step, frame},
    json::Reader,
    log::Log,
    ring, until_eof,
    wire::{self, Wire},
};
use flate2::read::GzDecoder;
use monoio::net::{TcpListener, TcpStream};
use rustls::ServerConfig;
use std::{
    cell::{Cell, RefCell},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Head and body of one request.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// How soon `stop` is noticed.
const STOP_POLL: Duration = Duration::from_millis(10);

/// What happened so far; written by the simulator's thread, read by any.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests that came in whole.
    pub asked: AtomicU64,
    /// Answers with at least one bid.
    pub bids: AtomicU64,
    /// Answers without one.
    pub no_bids: AtomicU64,
    /// Answers that were wrong on purpose.
    pub errors: AtomicU64,
    /// Answers, of any kind, that were late on purpose.
    pub lates: AtomicU64,
    /// Requests that were no HTTP or no JSON.
    pub bad_requests: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Notices it was told.
    pub told: AtomicU64,
    /// Connections refused above the limit.
    pub refused: AtomicU64,
}

fn count(of: &AtomicU64) {
    // One writer: a plain store would do, but this is not where the time goes.
    of.fetch_add(1, Relaxed);
}

/// Serves until `stop` is set.
pub fn serve(
    listener: std::net::TcpListener,
    character: Character,
    stats: Arc<Stats>,
    stop: Arc<AtomicBool>,
) -> io::Result<()> {
    serve_logged(listener, character, stats, stop, (None, None))
}

/// [`serve`], and each call is written down; behind TLS.
///
/// # Errors
/// Also when the log is not whole, at the end.
pub fn serve_logged(
    listener: std::net::TcpListener,
    character: Character,
    stats: Arc<Stats>,
    stop: Arc<AtomicBool>,
    (log, tls): (Option<Log>, Option<Arc<ServerConfig>>),
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    if character.hostile == Some(Hostile::Reset) {
        // Connections have it of their listener: each ends with a reset.
        socket2::SockRef::from(&listener).set_linger(Some(Duration::ZERO))?;
    }
    ring::run(async move {
        let listener = TcpListener::from_std(listener)?;
        let shared = Rc::new(Shared {
            character,
            stats,
            open: Cell::new(0),
            reader: RefCell::default(),
            log: log.map(RefCell::new),
            tls,
        });
        monoio::spawn(accept(listener, shared.clone()));
        while !stop.load(Relaxed) {
            monoio::time::sleep(STOP_POLL).await;
            if let Some(log) = &shared.log {
                log.borrow_mut().flush();
            }
        }
        shared.log.as_ref().map_or(Ok(()), |log| log.borrow_mut().end())
    })?
}

struct Shared {
    character: Character,
    stats: Arc<Stats>,
    open: Cell<usize>,
    reader: RefCell<Reader>,
    log: Option<RefCell<Log>>,
    tls: Option<Arc<ServerConfig>>,
}

async fn accept(listener: TcpListener, shared: Rc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others will close.
            monoio::time::sleep(STOP_POLL).await;
            continue;
        };
        if shared.open.get() >= CONNECTIONS_MAX {
            count(&shared.stats.refused);
            continue;
        }
        count(&shared.stats.connections);
        let shared = shared.clone();
        monoio::spawn(async move {
            shared.open.set(shared.open.get() + 1);
            // The peer going away is how connections end.
            let _ = connection(stream, &shared).await;
            shared.open.set(shared.open.get() - 1);
        });
    }
}

/// How the connection goes on after an answer.
#[derive(PartialEq, Eq)]
enum After {
    Keep,
    Close,
}

async fn connection(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = Wire::new(stream, shared.tls.as_ref())?;
    let (mut input, mut filled) = (vec![0u8; 4096], 0usize);
    let mut output: Vec<u8> = Vec::with_capacity(4096);
    let mut continued = false;
    loop {
        match frame(&mut input[..filled], Kind::Request, REQUEST_BYTES_MAX) {
            Err(_) => {
                count(&shared.stats.bad_requests);
                output.clear();
                output.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return stream.write_all(output).await.0;
            }
            Ok(Step::More { expects_continue }) => {
                if expects_continue && !continued {
                    continued = true;
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await.0?;
                }
                if filled == input.len() {
                    input.resize(2 * input.len(), 0);
                }
                let (read, whole) = stream.read(input, filled).await;
                input = whole;
                match read? {
                    0 => return Ok(()),
                    n => filled += n,
                }
            }
            Ok(Step::Whole(request)) => {
                continued = false;
                output.clear();
                let (delay_us, after) = answer(shared, &request, &mut input, &mut output);
                if delay_us > 0 {
                    monoio::time::sleep(Duration::from_micros(delay_us)).await;
                }
                if let Some(hostile) = shared.character.hostile {
                    abuse(&mut stream, hostile, std::mem::take(&mut output)).await?;
                    if hostile == Hostile::Closes {
                        return Ok(());
                    }
                } else {
                    let (written, buffer) = stream.write_all(output).await;
                    output = buffer;
                    written?;
                }
                if after == After::Close {
                    return Ok(());
                }
                input.copy_within(request.end..filled, 0);
                filled -= request.end;
            }
        }
    }
}

async fn abuse(stream: &mut Wire, hostile: Hostile, answer: Vec<u8>) -> io::Result<()> {
    if hostile == Hostile::Reset {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    for mut part in hostile.instead_of(answer) {
        loop {
            let (written, bytes) = stream.write_all(part.bytes).await;
            written?;
            if part.pause_us > 0 {
                monoio::time::sleep(Duration::from_micros(part.pause_us)).await;
            }
            if !part.endless {
                break;
            }
            part.bytes = bytes;
        }
    }
    Ok(())
}

/// Longer than anybody waits.
const DEAF_US: u64 = 3_600_000_000;

/// The target of a notice.
fn told(request: &[u8]) -> Option<&str> {
    let rest = request.strip_prefix(b"GET ")?;
    let end = rest.iter().position(|b| *b == b' ')?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// Writes the answer to one request; gives its delay in microseconds.
fn answer(shared: &Shared, request: &Frame, input: &mut [u8], out: &mut Vec<u8>) -> (u64, After) {
    let (stats, who) = (&shared.stats, &shared.character);
    if let Some(target) = told(input) {
        count(&stats.told);
        if let Some(log) = &shared.log {
            log.borrow_mut().told(target);
        }
        if who.deaf {
            return (DEAF_US, After::Close);
        }
        out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
        return (0, if request.close { After::Close } else { After::Keep });
    }
    count(&stats.asked);
    // Room for the head, whose length is not known before the body's is.
    const HEAD: usize = 128;
    out.resize(HEAD, b' ');
    let mut body = input.get_mut(request.body.clone()).unwrap_or(&mut []);
    let mut inflated = Vec::new();
    if request.gzip {
        // What is no gzip is no JSON either, and refused as that.
        let _ = GzDecoder::new(&*body).take(REQUEST_BYTES_MAX as u64).read_to_end(&mut inflated);
        body = &mut inflated;
    }
    let read = shared.reader.borrow_mut().read(body, |root| {
        if !root.is_object() {
            return None;
        }
        let tmax = root.number_of("tmax").unwrap_or(100.0).clamp(1.0, 10_000.0) as u64;
        let mut plan = who.plan(root.text_of("id").unwrap_or(""), tmax);
        let bids = match who.fixed_bytes {
            Some(bytes) => usize::from(bids::write_fixed(out, root, who, bytes)),
            None => bids::write_answer(out, root, who, &mut plan.rng),
        };
        let id = shared.log.is_some().then(|| root.text_of("id").unwrap_or("").to_owned());
        Some((plan, bids, id))
    });
    let Some((mut plan, bids, id)) = read.flatten() else {
        count(&stats.bad_requests);
        out.clear();
        out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        return (0, if request.close { After::Close } else { After::Keep });
    };
    if plan.late {
        count(&stats.lates);
    }
    if let (Some(log), Some(id)) = (&shared.log, &id) {
        let mut log = log.borrow_mut();
        if plan.wrong.is_none() && bids > 0 {
            let mut copy = out[HEAD..].to_vec();
            shared.reader.borrow_mut().read(&mut copy, |answer| log.note(answer));
        }
        let fault = plan.wrong.map(Wrong::name).or(plan.late.then_some("late"));
        log.call(id.as_bytes(), plan.delay_us, fault);
    }
    let mut after = if request.close { After::Close } else { After::Keep };
    let (mut status, mut cut) = ("200 OK", None);
    if let Some(wrong) = plan.wrong {
        count(&stats.errors);
        match wrong {
            Wrong::Status500 => {
                out.truncate(HEAD);
                status = "500 Internal Server Error";
            }
            Wrong::Garbage => {
                out.truncate(HEAD);
                out.extend_from_slice(b"<html><body>upstream timed out</body></html>");
            }
            Wrong::OtherId => {
                out.truncate(HEAD);
                let _ = write!(out, "{{\"id\":\"{:x}\",\"seatbid\":[]}}", plan.rng.draw());
            }
            Wrong::Cut => {
                if out.len() == HEAD {
                    out.extend_from_slice(b"{\"id\":\"never ends\"}");
                }
                cut = Some(HEAD + (out.len() - HEAD) / 2);
                after = After::Close;
            }
        }
    } else if bids > 0 {
        count(&stats.bids);
    } else {
        count(&stats.no_bids);
        status = no_bid(&mut plan.rng, out);
    }
    let body_bytes = out.len() - HEAD;
    if let Some(length) = cut {
        out.truncate(length);
    }
    write_head(out, HEAD, status, body_bytes);
    (plan.delay_us, after)
}

/// The three ways in which "no bid" is said in the field: 204, an empty object, an empty list.
fn no_bid(rng: &mut super::rng::Rng, out: &mut Vec<u8>) -> &'static str {
    match rng.below(10) {
        0 => {
            out.extend_from_slice(b"{}");
            "200 OK"
        }
        _ => "204 No Content",
    }
}

/// Puts the head right before the body, which starts at `at`, and removes what is left of the room.
fn write_head(out: &mut Vec<u8>, at: usize, status: &str, body_bytes: usize) {
    let mut head = [0u8; 128];
    let mut rest = &mut head[..];
    let _ = if status.starts_with("204") {
        write!(rest, "HTTP/1.1 {status}\r\n\r\n")
    } else {
        write!(rest, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n")
    };
    let used = 128 - rest.len();
    if used <= at {
        out.splice(..at, head[..used].iter().copied());
    }
}

/// `outcry dsp-sim`: a simulated DSP of its own.
#[derive(clap::Args, Clone, Debug)]
pub struct DspSimArgs {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// cheap, rich, decliner, erring, late, or fixed (always the same bid; for benchmarks).
    #[arg(long, default_value = "cheap", value_parser = clap::builder::PossibleValuesParser::new(Character::NAMES))]
    pub character: String,
    /// The same seed and the same request ids give the same bids, delays and errors.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Shortest delay in microseconds, instead of the character's; then without a tail.
    #[arg(long)]
    pub delay_us: Option<u64>,
    /// Chance to bid, 0 to 1, instead of the character's.
    #[arg(long)]
    pub bid_rate: Option<f64>,
    /// Chance of a wrong answer, 0 to 1, instead of the character's.
    #[arg(long)]
    pub error_rate: Option<f64>,
    /// Chance of an answer after the deadline, 0 to 1, instead of the character's.
    #[arg(long)]
    pub late_rate: Option<f64>,
    /// The currency it likes to bid in, instead of the character's.
    #[arg(long)]
    pub cur: Option<String>,
    /// Bytes of the body of a `fixed` answer.
    #[arg(long, default_value_t = 700)]
    pub body_bytes: usize,
    /// What it does with its answers on the wire, instead of just sending them.
    #[arg(long, value_enum)]
    pub hostile: Option<Hostile>,
    /// Pin it to this CPU.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Do not print a line a second.
    #[arg(long)]
    pub quiet: bool,
    /// Append each call to this file, a JSON object a line: request id, bids, delay, what is wrong on purpose.
    #[arg(long, value_name = "FILE")]
    pub calls: Option<PathBuf>,
    /// Its bids have notice URLs at its own address; each call is answered and goes into --calls.
    #[arg(long)]
    pub notices: bool,
    /// It never answers those calls.
    #[arg(long, requires = "notices")]
    pub deaf: bool,
    /// Behind TLS: the file with its certificate and those between it and an authority, PEM.
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The file with the key to it, PEM.
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// End in order when standard input does.
    #[arg(long)]
    pub until_eof: bool,
}

impl DspSimArgs {
    fn character(&self) -> Option<Character> {
        let permille = |rate: f64| (rate.clamp(0.0, 1.0) * 1000.0).round() as u32;
        let mut c = Character::named(&self.character, self.seed)?;
        if let Some(us) = self.delay_us {
            (c.delay_min_us, c.delay_tail_us) = (us, 0);
        }
        c.bid_permille = self.bid_rate.map_or(c.bid_permille, permille);
        c.error_permille = self.error_rate.map_or(c.error_permille, permille);
        c.late_permille = self.late_rate.map_or(c.late_permille, permille);
        c.cur = self.cur.clone().unwrap_or(c.cur);
        c.notices = self.notices.then(|| self.listen.to_string());
        (c.hostile, c.deaf) = (self.hostile, self.deaf);
        c.fixed_bytes = c.fixed_bytes.map(|_| self.body_bytes.min(REQUEST_BYTES_MAX));
        Some(c)
    }
}

/// Runs `outcry dsp-sim` until it is killed, or its input ends.
pub fn run(args: DspSimArgs) -> ExitCode {
    let Some(character) = args.character() else {
        eprintln!("dsp-sim: no character {:?}; there are {}", args.character, Character::NAMES.join(", "));
        return ExitCode::FAILURE;
    };
    let listener = match std::net::TcpListener::bind(args.listen) {
        Ok(listener) => listener,
        Err(e) => {
            eprintln!("dsp-sim: cannot listen on {}: {e}", args.listen);
            return ExitCode::FAILURE;
        }
    };
    let log = match args.calls.as_deref().map(Log::append_to).transpose() {
        Ok(log) => log,
        Err(e) => {
            eprintln!("dsp-sim: {}: {e}", args.calls.unwrap_or_default().display());
            return ExitCode::FAILURE;
        }
    };
    let tls = match args.tls_cert.as_deref().zip(args.tls_key.as_deref()).map(|(certs, key)| wire::server(certs, key)) {
        None => None,
        Some(Ok(config)) => Some(config),
        Some(Err(e)) => {
            eprintln!("dsp-sim: --tls-cert, --tls-key: {e}");
            return ExitCode::FAILURE;
        }
    };
    let (stats, stop) = (Arc::new(Stats::default()), Arc::<AtomicBool>::default());
    if args.until_eof {
        until_eof::set(stop.clone());
    }
    println!("dsp-sim {} listens on {}", character.name, listener.local_addr().unwrap_or(args.listen));
    if !args.quiet {
        let stats = stats.clone();
        // Spawned before pinning, so that printing never runs on the simulator's CPU.
        std::thread::spawn(move || print_each_second(&stats));
    }
    if !ring::pin(args.cpu) {
        eprintln!("dsp-sim: cannot pin to CPU {:?}; running unpinned", args.cpu);
    }
    match serve_logged(listener, character, stats, stop, (log, tls)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("dsp-sim: {e}");
            ExitCode::FAILURE
        }
    }
}

fn print_each_second(stats: &Stats) {
    let (mut before, mut due) = (0, Instant::now());
    loop {
        due += Duration::from_secs(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let of = |n: &AtomicU64| n.load(Relaxed);
        let asked = of(&stats.asked);
        let line = format!(
            "asked {asked} ({}/s)  bids {}  no-bids {}  errors {}  lates {}  bad requests {}  notices {}  connections {}",
            asked - before,
            of(&stats.bids),
            of(&stats.no_bids),
            of(&stats.errors),
            of(&stats.lates),
            of(&stats.bad_requests),
            of(&stats.told),
            of(&stats.connections),
        );
        // The reader of a pipe may have left.
        if writeln!(io::stdout(), "{line}").is_err() {
            return;
        }
        before = asked;
    }
}

#[cfg(test)]
mod tests {
    use super::{Character, Log, Relaxed, Stats, serve_logged};
    use crate::lab::{
        http::{Kind, Step, frame},
        json::Reader,
        requests::{Template, generate},
    };
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener, TcpStream},
        sync::{Arc, atomic::AtomicBool},
    };

    struct Running {
        addr: SocketAddr,
        stats: Arc<Stats>,
        stop: Arc<AtomicBool>,
        thread: Option<std::thread::JoinHandle<std::io::Result<()>>>,
    }

    fn start(change: impl FnOnce(&mut Character)) -> Running {
        start_logged(change, None)
    }

    fn start_logged(change: impl FnOnce(&mut Character), log: Option<Log>) -> Running {
        let mut character = Character::named("cheap", 1).expect("known");
        change(&mut character);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address");
        let (stats, stop) = (Arc::new(Stats::default()), Arc::new(AtomicBool::new(false)));
        let (a, b) = (stats.clone(), stop.clone());
        let thread = Some(std::thread::spawn(move || serve_logged(listener, character, a, b, (log, None))));
        Running { addr, stats, stop, thread }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop.store(true, Relaxed);
            let ended = self.thread.take().map(|t| t.join());
            assert!(matches!(ended, Some(Ok(Ok(())))) || std::thread::panicking());
        }
    }

    /// Status and body of one answer; `None` when the connection ends first.
    fn receive(stream: &mut TcpStream) -> Option<(u16, Vec<u8>)> {
        let mut buf = Vec::new();
        loop {
            if let Ok(Step::Whole(f)) = frame(&mut buf, Kind::Response, 1 << 20) {
                assert_eq!(f.end, buf.len(), "nothing may follow an answer");
                return Some((f.status, buf[f.body].to_vec()));
            }
            let mut part = [0; 4096];
            match stream.read(&mut part) {
                Ok(n) if n > 0 => buf.extend_from_slice(&part[..n]),
                _ => return None,
            }
        }
    }

    fn request(template: &Template, seq: u64) -> Vec<u8> {
        let mut bytes =
            format!("POST /bid HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n", template.body.len()).into_bytes();
        let at = bytes.len();
        bytes.extend_from_slice(&template.body);
        template.patch(&mut bytes, at, 1, seq);
        bytes
    }

    #[test]
    fn answers_valid_bids_on_one_kept_connection() {
        let dsp = start(|c| (c.delay_min_us, c.delay_tail_us) = (0, 0));
        let mut stream = TcpStream::connect(dsp.addr).expect("connects");
        let (mut bids, mut none) = (0, 0);
        for (i, template) in generate(2, 100).iter().enumerate() {
            stream.write_all(&request(template, i as u64)).expect("sends");
            let (status, mut body) = receive(&mut stream).expect("answers");
            if status == 204 || body == b"{}" {
                none += 1;
                continue;
            }
            assert_eq!(status, 200);
            let read = Reader::default().read(&mut body, |v| {
                assert_eq!(v.text_of("id"), Some(format!("00000001{i:016x}").as_str()));
                v.list("seatbid").flat_map(|s| s.list("bid")).count()
            });
            assert!(read.is_some_and(|n| n > 0));
            bids += 1;
        }
        assert!(bids > 40 && none > 5, "{bids} bids, {none} no-bids");
        let of = |n: &std::sync::atomic::AtomicU64| n.load(Relaxed);
        assert_eq!((of(&dsp.stats.asked), of(&dsp.stats.bids), of(&dsp.stats.no_bids)), (100, bids, none));
        assert_eq!(of(&dsp.stats.connections), 1);
    }

    #[test]
    fn every_call_is_written_down_as_it_is_answered() {
        let path = std::env::temp_dir().join(format!("outcry-calls-{}", std::process::id()));
        let log = Log::append_to(&path).expect("a log");
        let change = |c: &mut Character| (c.error_permille, c.delay_min_us, c.delay_tail_us) = (300, 0, 0);
        let dsp = start_logged(change, Some(log));
        let mut answers = Vec::new();
        for (i, template) in generate(2, 60).iter().enumerate() {
            let mut stream = TcpStream::connect(dsp.addr).expect("connects");
            stream.write_all(&request(template, i as u64)).expect("sends");
            answers.push(receive(&mut stream).filter(|a| a.0 == 200));
        }
        drop(dsp);
        let lines = std::fs::read_to_string(&path).expect("a log");
        std::fs::remove_file(&path).expect("clean up");
        let (mut bids, mut faults) = (0, 0);
        for (i, (line, answer)) in lines.lines().zip(&mut answers).enumerate() {
            assert!(line.starts_with(&format!("{{\"id\":\"00000001{i:016x}\",\"us\":")), "{line}");
            if line.contains("\"fault\":") {
                faults += 1;
            } else if line.contains("\"bids\":") {
                let read = Reader::default().read(&mut answer.take().expect("a 200").1, |v| {
                    let bid = v.list("seatbid").next().and_then(|s| s.list("bid").next()).expect("a bid");
                    (bid.number_of("price").expect("a price"), bid.text_of("id").expect("an id").to_owned())
                });
                let (price, id) = read.expect("JSON");
                assert!(line.contains(&format!("{{\"micros\":{:.0},", price * 1e6)) && line.contains(&id), "{line}");
                bids += 1;
            }
        }
        assert!(lines.lines().count() == 60 && bids > 15 && faults > 5, "{bids} {faults}");
    }

    #[test]
    fn takes_chunks_and_two_requests_at_once_and_refuses_nonsense() {
        let dsp = start(|c| (c.fixed_bytes, c.delay_min_us, c.delay_tail_us) = (Some(300), 0, 0));
        let mut stream = TcpStream::connect(dsp.addr).expect("connects");
        let body = br#"{"id":"x","imp":[{"id":"1","banner":{}}]}"#;
        let (one, two) = body.split_at(10);
        let mut sent = b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in [one, two, b""] {
            sent.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            sent.extend_from_slice(part);
            sent.extend_from_slice(b"\r\n");
        }
        stream.write_all(&sent).expect("sends");
        let (status, answer) = receive(&mut stream).expect("answers");
        assert_eq!((status, answer.len()), (200, 300));

        stream.write_all(b"POST / HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\n\r\nnope").expect("sends");
        assert_eq!(receive(&mut stream), Some((400, Vec::new())));
        stream.write_all(b"nonsense\r\n\r\n").expect("sends");
        assert_eq!(receive(&mut stream), Some((400, Vec::new())));
        assert_eq!(receive(&mut stream), None, "closed after nonsense");
        assert_eq!(dsp.stats.bad_requests.load(Relaxed), 2);
    }

    #[test]
    fn errs_as_often_as_told() {
        let dsp = start(|c| (c.error_permille, c.delay_min_us, c.delay_tail_us) = (1000, 0, 0));
        let (mut s500, mut wrong, mut cut) = (0, 0, 0);
        for (i, template) in generate(4, 60).iter().enumerate() {
            let mut stream = TcpStream::connect(dsp.addr).expect("connects");
            stream.write_all(&request(template, i as u64)).expect("sends");
            match receive(&mut stream) {
                None => cut += 1,
                Some((500, _)) => s500 += 1,
                Some((200, mut body)) => {
                    let id = Reader::default().read(&mut body, |v| v.text_of("id").map(str::to_owned)).flatten();
                    assert_ne!(id, Some(format!("00000001{i:016x}")));
                    wrong += 1;
                }
                Some(other) => panic!("{other:?}"),
            }
        }
        assert!(s500 > 3 && wrong > 10 && cut > 3, "{s500} {wrong} {cut}");
        assert_eq!(dsp.stats.errors.load(Relaxed), 60);
    }
}
