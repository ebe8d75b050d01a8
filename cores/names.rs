//! Where hosts are: name servers asked, and asked again as their answers say, on a thread that may wait.
//! Owns: the table of names, once it runs. Runs on: the names' thread; the main thread at the start and control at a reload, for
//! names that nobody knows yet. Never: on a bidder core, which hears of what has changed through control.
//! Full: what control has not taken yet waits in its channel, a message a name and change.
//!
//! Not the system's resolver: that says no times to live. It is asked all the same for what no server knows, since a system may
//! know names from elsewhere.
use outcry::{
    config::DnsRules,
    messages::Moved,
    names::{
        files::{self, Resolv},
        inside::believe,
        message::{self, ADDRESSES_MAX, Kind, Said, Unsaid},
        table::Table,
    },
};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

/// One server has so long for an answer; then the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Every server is asked so often.
const ROUNDS: usize = 2;
/// How often the table is looked at.
const TICK: Duration = Duration::from_millis(200);
/// A name in /etc/hosts, or from the system, has no time to live: it is looked up again as often as may be.
const WRITTEN_TTL_S: u32 = 60;

/// What became of a name that was looked up again.
#[derive(Debug)]
pub enum Looked {
    /// It has the addresses that it had.
    Found,
    /// It has others.
    Moved(Moved),
    /// Nobody could say; it keeps those that it had.
    Failed {
        /// The name.
        host: String,
        /// Why.
        why: String,
    },
}

/// Names and their addresses.
#[derive(Debug)]
pub struct Names {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: Table,
    rules: DnsRules,
}

/// What somebody says of a name.
struct Answer {
    ips: Vec<IpAddr>,
    /// Seconds to live.
    ttl_s: u32,
    /// It stands in /etc/hosts: whoever writes there is believed whatever he writes.
    written: bool,
}

impl State {
    /// Addresses and seconds to live, as far as they are to be believed.
    fn believed(&self, host: &str, said: Answer) -> Result<(Vec<IpAddr>, u32), String> {
        let Answer { mut ips, ttl_s, written } = said;
        if !written {
            let all = ips.len();
            believe(self.table.addresses(host), &mut ips);
            if ips.is_empty() && all > 0 {
                return Err(format!("{host} is said to be inside, or nowhere: that is not believed of it"));
            }
        }
        Ok((reachable(ips), ttl_s))
    }
}

/// Is this written as an address?
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

impl Names {
    /// Of nobody yet.
    pub fn new(rules: &DnsRules) -> Arc<Names> {
        let state = State { table: Table::new(rules.times), rules: rules.clone() };
        Arc::new(Names { state: Mutex::new(state) })
    }

    /// Held for as long as it takes to look at a table, never while somebody is asked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on by these rules, and only these hosts.
    pub fn keep(&self, rules: &DnsRules, wanted: impl Fn(&str) -> bool) {
        let mut state = self.lock();
        state.table.keep(rules.times, wanted);
        state.rules = rules.clone();
    }

    /// A host's addresses: those that are known, or else whoever knows is asked.
    ///
    /// # Errors
    /// Why nobody says.
    pub fn addresses(&self, host: &str, port: u16, now_ns: u64) -> Result<Vec<SocketAddr>, String> {
        if let Some(ip) = literal(host) {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let known = self.lock().table.addresses(host).map(<[IpAddr]>::to_vec);
        let ips = match known {
            Some(ips) => ips,
            None => {
                let rules = self.lock().rules.clone();
                let said = look_up(host, &rules)?;
                let mut state = self.lock();
                let (ips, ttl_s) = state.believed(host, said)?;
                state.table.found(host, ips, ttl_s, now_ns);
                state.table.addresses(host).unwrap_or_default().to_vec()
            }
        };
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    /// Looks up what is due, and says what came of it. `false`: nobody listens.
    fn turn(&self, now_ns: impl Fn() -> u64, to_control: &Sender<Looked>) -> bool {
        let (due, rules) = {
            let state = self.lock();
            (state.table.due(now_ns()), state.rules.clone())
        };
        for host in due {
            let said = look_up(&host, &rules);
            let mut state = self.lock();
            // A reload may have forgotten it meanwhile: then nobody is to hear of it.
            let known = state.table.addresses(&host).is_some();
            let looked = match said.and_then(|said| state.believed(&host, said)) {
                _ if !known => continue,
                Ok((ips, ttl_s)) => match state.table.found(&host, ips, ttl_s, now_ns()) {
                    true => {
                        let addresses = state.table.addresses(&host).unwrap_or_default().to_vec();
                        Looked::Moved(Moved { host, addresses })
                    }
                    false => Looked::Found,
                },
                Err(why) => {
                    state.table.failed(&host, now_ns());
                    Looked::Failed { host, why }
                }
            };
            // Under the lock: a reload that reads the table later is sent to the cores later.
            if to_control.send(looked).is_err() {
                return false;
            }
        }
        true
    }
}

/// The names' thread: looks up what is due until nobody holds the other end of `stop`, or listens.
pub fn run(names: &Names, now_ns: impl Fn() -> u64, to_control: &Sender<Looked>, stop: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(TICK) {
        if !names.turn(&now_ns, to_control) {
            return;
        }
    }
}

fn look_up(host: &str, rules: &DnsRules) -> Result<Answer, String> {
    let written = files::hosts(&read("/etc/hosts"), host);
    if !written.is_empty() {
        return Ok(Answer { ips: written, ttl_s: WRITTEN_TTL_S, written: true });
    }
    let mut resolv = files::resolv(&read("/etc/resolv.conf"));
    if !rules.servers.is_empty() {
        resolv.servers.clone_from(&rules.servers);
    }
    match by_servers(host, &resolv) {
        Ok((ips, ttl_s)) => Ok(Answer { ips, ttl_s, written: false }),
        // Servers of our own are the operator's word: what they do not know is not looked for elsewhere.
        Err(why) if !rules.servers.is_empty() => Err(why),
        Err(why) => match (host, 0u16).to_socket_addrs() {
            Ok(found) => {
                let ips: Vec<IpAddr> = found.map(|addr| addr.ip()).take(ADDRESSES_MAX).collect();
                let answer = Answer { ips, ttl_s: WRITTEN_TTL_S, written: false };
                if answer.ips.is_empty() { Err(why) } else { Ok(answer) }
            }
            Err(_) => Err(why),
        },
    }
}

fn read(path: &str) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Those to which this machine knows a way, if there are any: of a host with both kinds, half would else be out of reach.
fn reachable(ips: Vec<IpAddr>) -> Vec<IpAddr> {
    let way = |ip: &IpAddr| {
        let from: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // Nothing is sent by connecting a datagram's socket.
        UdpSocket::bind((from, 0)).and_then(|socket| socket.connect((*ip, 53))).is_ok()
    };
    let with_way: Vec<IpAddr> = ips.iter().copied().filter(way).collect();
    if with_way.is_empty() { ips } else { with_way }
}

fn by_servers(host: &str, resolv: &Resolv) -> Result<(Vec<IpAddr>, u32), String> {
    let mut why = format!("no name server knows {host}");
    for name in resolv.candidates(host) {
        let (v4, v6) = (ask_all(&name, Kind::A, resolv), ask_all(&name, Kind::Aaaa, resolv));
        match (v4, v6) {
            (Ok((mut ips, ttl_s)), Ok((more, more_s))) if !(ips.is_empty() && more.is_empty()) => {
                let ttl_s = match (ips.is_empty(), more.is_empty()) {
                    (false, false) => ttl_s.min(more_s),
                    (true, _) => more_s,
                    (_, true) => ttl_s,
                };
                ips.extend(more);
                return Ok((ips, ttl_s));
            }
            (Ok(_), Ok(_)) => {}
            // Some servers do not know what to make of the other kind.
            (Ok((ips, ttl_s)), Err(_)) | (Err(_), Ok((ips, ttl_s))) if !ips.is_empty() => return Ok((ips, ttl_s)),
            (Err(e), _) | (_, Err(e)) => why = format!("{name}: {e}"),
        }
    }
    Err(why)
}

/// One server after the other, until one says something.
fn ask_all(name: &str, kind: Kind, resolv: &Resolv) -> Result<(Vec<IpAddr>, u32), String> {
    let mut why = "no server".to_owned();
    for _ in 0..ROUNDS {
        for server in &resolv.servers {
            match ask(name, kind, *server) {
                Ok(said) => return Ok(said),
                Err(e) => why = format!("{server}: {e}"),
            }
        }
    }
    Err(why)
}

fn ask(name: &str, kind: Kind, server: SocketAddr) -> io::Result<(Vec<IpAddr>, u32)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let id = u16::from_le_bytes(id);
    let mut question = Vec::new();
    if !message::ask(id, name, kind, &mut question) {
        return Err(io::Error::other("no name of DNS"));
    }
    let from: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for each question: with the id that is what a liar has to guess.
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(server)?;
    socket.send(&question)?;
    let by = Instant::now() + PATIENCE;
    let mut answer = [0; 4096];
    loop {
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let len = match socket.recv(&mut answer) {
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        match message::read(&answer[..len], id, name, kind) {
            Ok(Said::Addresses(ips, ttl_s)) => return Ok((ips, ttl_s)),
            Ok(Said::CutOff) => return ask_at_length(&question, id, name, kind, server),
            Err(Unsaid::Other) => {}
            Err(e) => return Err(io::Error::other(e)),
        }
    }
}

/// Over TCP (RFC 7766), for answers that fit into no datagram.
fn ask_at_length(
    question: &[u8],
    id: u16,
    name: &str,
    kind: Kind,
    server: SocketAddr,
) -> io::Result<(Vec<IpAddr>, u32)> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut bytes = (question.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(question);
    stream.write_all(&bytes)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    match message::read(&answer, id, name, kind).map_err(io::Error::other)? {
        Said::Addresses(ips, ttl_s) => Ok((ips, ttl_s)),
        Said::CutOff => Err(io::Error::other(Unsaid::Broken)),
    }
}
