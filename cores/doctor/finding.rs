//! What a knob is, and what was found of one.
//! Owns: nothing. Called by: every group of knobs, `print`. Never: reads the machine.
use super::machine::Unread;

/// One thing of a machine that can be set, and that an operator can get wrong.
#[derive(PartialEq, Eq, Debug)]
pub struct Knob {
    /// Its name in the table and in JSON; stable.
    pub id: &'static str,
    /// The file of `tuning/` that tells why, how to check, set and undo it.
    pub file: &'static str,
    /// What it costs when it is set wrong: one sentence without a full stop.
    pub costs: &'static str,
}

/// How a knob stands. The later, the more it asks for attention.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Could not be read here.
    Unknown,
    /// Nothing fails, but it costs time or certainty.
    Advice,
    /// What the configuration promises will not be kept.
    Wrong,
}

impl Verdict {
    /// All of them, the least urgent first.
    pub const ALL: [Verdict; 4] = [Verdict::Ok, Verdict::Unknown, Verdict::Advice, Verdict::Wrong];

    /// As it stands in the table and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Advice => "advice",
            Verdict::Wrong => "wrong",
        }
    }
}

/// How one knob stands on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Which knob.
    pub knob: &'static Knob,
    /// How it stands.
    pub verdict: Verdict,
    /// What was read; for [`Verdict::Unknown`] why nothing could be.
    pub found: String,
    /// What it should be; empty when it is.
    pub wanted: String,
    /// Commands, or lines of a file, that mend it, the first one at once; empty when nothing is to be done.
    pub mend: Vec<String>,
}

impl Knob {
    pub(super) fn ok(&'static self, found: impl Into<String>) -> Finding {
        self.finding(Verdict::Ok, found.into(), String::new(), Vec::new())
    }

    pub(super) fn unknown(&'static self, why: &Unread) -> Finding {
        self.finding(Verdict::Unknown, why.to_string(), String::new(), Vec::new())
    }

    pub(super) fn advice(
        &'static self,
        found: impl Into<String>,
        wanted: impl Into<String>,
        mend: Vec<String>,
    ) -> Finding {
        self.finding(Verdict::Advice, found.into(), wanted.into(), mend)
    }

    pub(super) fn wrong(
        &'static self,
        found: impl Into<String>,
        wanted: impl Into<String>,
        mend: Vec<String>,
    ) -> Finding {
        self.finding(Verdict::Wrong, found.into(), wanted.into(), mend)
    }

    /// Wrong if `bad`, else advice.
    pub(super) fn amiss(
        &'static self,
        bad: bool,
        found: impl Into<String>,
        wanted: impl Into<String>,
        mend: Vec<String>,
    ) -> Finding {
        let verdict = if bad { Verdict::Wrong } else { Verdict::Advice };
        self.finding(verdict, found.into(), wanted.into(), mend)
    }

    fn finding(&'static self, verdict: Verdict, found: String, wanted: String, mend: Vec<String>) -> Finding {
        Finding { knob: self, verdict, found, wanted, mend }
    }
}

/// The two commands that set a sysctl: now, and for the next boot.
pub(super) fn set(key: &str, value: impl std::fmt::Display) -> Vec<String> {
    vec![
        format!("sysctl -w {key}='{value}'"),
        format!("echo '{key} = {value}' >> /etc/sysctl.d/60-outcry.conf   # keeps it"),
    ]
}
