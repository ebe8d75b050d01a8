//! How the last process ended: told from the marker that it left on disk and the black boxes that are found.
//! Owns: nothing. Runs on: boot. Called by: `cores/blackbox`, which keeps the marker in `state_dir`.
//!
//! A box lives in memory, the marker on disk. A killed process leaves both. A power cut leaves the marker and takes the
//! boxes, and the machine has another boot id since. So a start can say which of the two it was, and whether what was
//! not yet in the journal can still be read.
use super::blackbox::BootId;
use std::fmt::Write;

/// Where the process that wrote the marker had got to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its boxes are made; auctions may be in them that the journal has not. Written before the first auction.
    Running,
    /// It ended in order: everything is in the journal. Written after the last commit, before the boxes are removed.
    Clean,
    /// It was killed, and a later start has read its boxes out into the journal. Written after the commit of that,
    /// before the boxes are removed.
    Recovered,
}

/// What stands in the marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker {
    /// How far it got.
    pub state: State,
    /// Which start it speaks of.
    pub epoch: u32,
    /// The run of the operating system in which that was.
    pub boot: BootId,
    /// Boxes that it made: one for each bidder core.
    pub boxes: u16,
    /// Its answers waited until their records were on disk: what is not there was never answered.
    pub power: bool,
}

/// Why a text is no marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MarkerError {
    /// A newer release wrote it.
    #[error("it is of version {0}, and this release reads version 1")]
    Newer(u32),
    /// A line is missing or says nothing that can be read.
    #[error("its line `{0}` is missing or garbled")]
    Line(&'static str),
}

const STATES: [(State, &str); 3] =
    [(State::Running, "running"), (State::Clean, "clean"), (State::Recovered, "recovered")];

impl Marker {
    /// What is written: lines of a key and a value, for people too.
    pub fn text(&self) -> String {
        let Marker { state, epoch, boot, boxes, power } = self;
        let state = STATES.iter().find(|(s, _)| s == state).map_or("", |(_, name)| name);
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = write!(text, "marker 1\nstate {state}\nepoch {epoch}\nboot {boot}\nboxes {boxes}\n");
        if *power {
            text.push_str("durability power\n");
        }
        text
    }

    /// Reads [`Marker::text`].
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Marker, MarkerError> {
        fn line<T>(text: &str, key: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, MarkerError> {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            value.and_then(read).ok_or(MarkerError::Line(key))
        }
        match line(text, "marker", |v| v.parse().ok())? {
            1 => {}
            0 => return Err(MarkerError::Line("marker")),
            newer => return Err(MarkerError::Newer(newer)),
        }
        Ok(Marker {
            state: line(text, "state", |v| STATES.iter().find(|(_, name)| *name == v).map(|(s, _)| *s))?,
            epoch: line(text, "epoch", |v| v.parse().ok())?,
            boot: line(text, "boot", BootId::parse)?,
            boxes: line(text, "boxes", |v| v.parse().ok())?,
            power: text.lines().any(|line| line == "durability power"),
        })
    }
}

/// How the last process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// There was none on this state directory.
    Never,
    /// In order: the journal has everything.
    Clean {
        /// Its epoch.
        epoch: u32,
    },
    /// Killed, and read out by a start that did not get as far as its first auction: the journal has everything.
    Recovered {
        /// Its epoch.
        epoch: u32,
    },
    /// Killed: its boxes are all there. Once they are read out the journal has everything.
    Killed {
        /// Its epoch.
        epoch: u32,
    },
    /// The machine went down: what was not committed is lost.
    PowerCut {
        /// Its epoch.
        epoch: u32,
    },
    /// The machine did not go down, or not all boxes are gone: somebody removed them, or they are looked for elsewhere.
    /// What was in them is lost, unless they are found.
    BoxesGone {
        /// Its epoch.
        epoch: u32,
        /// Boxes that are missing.
        missing: u16,
    },
}

impl Ended {
    /// Its epoch, if there was one.
    pub fn epoch(&self) -> Option<u32> {
        match *self {
            Ended::Never => None,
            Ended::Clean { epoch }
            | Ended::Recovered { epoch }
            | Ended::Killed { epoch }
            | Ended::PowerCut { epoch }
            | Ended::BoxesGone { epoch, .. } => Some(epoch),
        }
    }

    /// Once all boxes that were found are read out, does the journal have all that was answered? `power`: answers waited for
    /// the disk.
    pub fn is_whole(&self, power: bool) -> bool {
        power || !matches!(self, Ended::PowerCut { .. } | Ended::BoxesGone { .. })
    }
}

/// Tells how the last process ended, from its marker, the running system's boot id, and how many boxes of the marker's
/// epoch were found (any number without a marker).
pub fn judge(marker: Option<&Marker>, boot: BootId, found: u16) -> Ended {
    let Some(&Marker { state, epoch, boot: then, boxes, .. }) = marker else { return Ended::Never };
    match state {
        State::Clean => Ended::Clean { epoch },
        State::Recovered => Ended::Recovered { epoch },
        State::Running if found >= boxes => Ended::Killed { epoch },
        State::Running if found == 0 && then != boot => Ended::PowerCut { epoch },
        State::Running => Ended::BoxesGone { epoch, missing: boxes - found },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId([0x4f; 16]);
    const OTHER: BootId = BootId([0x50; 16]);

    fn marker(state: State) -> Marker {
        Marker { state, epoch: 7, boot: BOOT, boxes: 4, power: false }
    }

    #[test]
    fn a_marker_comes_back() {
        let text = marker(State::Running).text();
        assert_eq!(text, "marker 1\nstate running\nepoch 7\nboot 4f4f4f4f-4f4f-4f4f-4f4f-4f4f4f4f4f4f\nboxes 4\n");
        for (state, _) in STATES {
            assert_eq!(Marker::parse(&marker(state).text()), Ok(marker(state)));
            let power = Marker { power: true, ..marker(state) };
            assert_eq!(Marker::parse(&power.text()), Ok(power));
        }
        assert_eq!(Marker::parse(&text.replace("marker 1", "marker 2")), Err(MarkerError::Newer(2)));
        for key in ["marker", "state", "epoch", "boot", "boxes"] {
            let garbled = text.replace(&format!("{key} "), &format!("{key} x"));
            assert_eq!(Marker::parse(&garbled), Err(MarkerError::Line(key)));
            let gone = text.replace(&format!("{key} "), "");
            assert_eq!(Marker::parse(&gone), Err(MarkerError::Line(key)));
        }
        assert_eq!(Marker::parse(""), Err(MarkerError::Line("marker")));
    }

    #[test]
    fn every_end_is_told() {
        let running = marker(State::Running);
        let cases = [
            (None, BOOT, 0, Ended::Never),
            (Some(marker(State::Clean)), OTHER, 0, Ended::Clean { epoch: 7 }),
            // Ended between the marker and the removal.
            (Some(marker(State::Clean)), BOOT, 4, Ended::Clean { epoch: 7 }),
            (Some(marker(State::Recovered)), BOOT, 2, Ended::Recovered { epoch: 7 }),
            (Some(running), BOOT, 4, Ended::Killed { epoch: 7 }),
            (Some(running), OTHER, 0, Ended::PowerCut { epoch: 7 }),
            (Some(running), BOOT, 0, Ended::BoxesGone { epoch: 7, missing: 4 }),
            (Some(running), BOOT, 3, Ended::BoxesGone { epoch: 7, missing: 1 }),
            (Some(running), OTHER, 1, Ended::BoxesGone { epoch: 7, missing: 3 }),
            // Kept by somebody over a boot: they can be read.
            (Some(running), OTHER, 4, Ended::Killed { epoch: 7 }),
        ];
        for (marker, boot, found, ended) in cases {
            assert_eq!(judge(marker.as_ref(), boot, found), ended, "{marker:?} {boot} {found}");
            assert_eq!(ended.epoch(), marker.map(|m| m.epoch));
            // What answers waited for is there, whatever else is gone.
            let lost = matches!(ended, Ended::PowerCut { .. } | Ended::BoxesGone { .. });
            assert!(ended.is_whole(true) && ended.is_whole(false) != lost);
        }
    }
}
