//! What systemd is told (sd_notify(3), Type=notify): readiness, stopping, signs of life.
//! Owns: a datagram socket. Runs on: control. Called by: `control`. Never: fails; who does not listen is not told.
//! Full: the datagram is dropped. READY is sent again with every status, signs of life come twice per interval.
use std::{
    ffi::{OsStr, OsString},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// A way to the service manager, or none.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// Nanoseconds between two signs of life: half of what the manager waits.
    watchdog_ns: Option<u64>,
    next_beat_ns: u64,
}

impl Notifier {
    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    pub fn from_env() -> Notifier {
        let text = |name| std::env::var(name).ok();
        let for_us = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let usec = text("WATCHDOG_USEC").filter(|_| for_us);
        Notifier::new(std::env::var_os("NOTIFY_SOCKET"), usec.as_deref())
    }

    /// `socket` is a path, or a name in the abstract namespace with `@` in front; `watchdog_usec` is the manager's
    /// interval. What cannot be read or reached is taken for absent.
    pub fn new(socket: Option<OsString>, watchdog_usec: Option<&str>) -> Notifier {
        let Some(socket) = socket.as_deref().and_then(connect) else { return Notifier::default() };
        let watchdog_ns = watchdog_usec.and_then(|t| t.parse::<u64>().ok()).filter(|us| *us > 0);
        let watchdog_ns = watchdog_ns.map(|us| us.saturating_mul(1_000) / 2);
        Notifier { socket: Some(socket), watchdog_ns, next_beat_ns: 0 }
    }

    /// Is there somebody to tell?
    pub fn connected(&self) -> bool {
        self.socket.is_some()
    }

    /// The service serves.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The service is on its way down.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}\n"));
    }

    /// A sign of life when one is due, if the process `lives`. Says whether one was sent.
    pub fn beat(&mut self, now_ns: u64, lives: bool) -> bool {
        let Some(interval) = self.watchdog_ns.filter(|_| lives && now_ns >= self.next_beat_ns) else { return false };
        self.next_beat_ns = now_ns.saturating_add(interval);
        self.send("WATCHDOG=1\n");
        true
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.as_bytes());
        }
    }
}

fn connect(name: &OsStr) -> Option<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
        [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address).ok()?;
    // Control may block, but a manager that does not read must not hold up a drain.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(socket: &UnixDatagram) -> Option<String> {
        let mut buf = [0; 256];
        socket.set_nonblocking(true).unwrap();
        socket.recv(&mut buf).ok().map(|n| String::from_utf8_lossy(&buf[..n]).into_owned())
    }

    fn check(name: OsString, manager: UnixDatagram) {
        let mut n = Notifier::new(Some(name), Some("3000000"));
        assert!(n.connected());
        n.ready("2 cores");
        assert_eq!(text(&manager).as_deref(), Some("READY=1\nSTATUS=2 cores\n"));
        assert!(n.beat(10, true));
        assert_eq!(text(&manager).as_deref(), Some("WATCHDOG=1\n"));
        assert!(!n.beat(1_500_000_009, true), "not before half the interval");
        assert!(!n.beat(1_500_000_010, false), "the dead send nothing");
        assert_eq!(text(&manager), None);
        assert!(n.beat(1_500_000_011, true));
        text(&manager);
        n.stopping("");
        assert_eq!(text(&manager).as_deref(), Some("STOPPING=1\nSTATUS=\n"));
    }

    #[test]
    fn a_path() {
        let path = std::env::temp_dir().join(format!("outcry-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).unwrap();
        check(path.clone().into_os_string(), manager);
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn an_abstract_name() {
        let name = format!("outcry-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        check(format!("@{name}").into(), manager);
    }

    #[test]
    fn nobody_to_tell_is_no_error() {
        for name in [None, Some(""), Some("relative"), Some("/nonexistent/socket"), Some("@")] {
            let mut n = Notifier::new(name.map(Into::into), Some("1000"));
            n.ready("");
            assert!(!n.connected() && !n.beat(u64::MAX, true), "{name:?}");
        }
        // A watchdog that was not asked for, or cannot be read.
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("outcry-quiet").unwrap()).unwrap();
        for usec in [None, Some("0"), Some("x")] {
            assert!(!Notifier::new(Some("@outcry-quiet".into()), usec).beat(1, true), "{usec:?}");
        }
        assert_eq!(text(&manager), None);
    }
}
