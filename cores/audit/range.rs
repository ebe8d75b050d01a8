//! `--from` and `--to`.
//! Owns: nothing. Called by: the commands of `outcry audit` that read many frames.
use clap::Args;
use outcry::record::when;

/// Which moments, by the time in each frame.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    /// From this moment on, or from the beginning of this day in UTC: 2026-01-31T12:00:00Z, 2026-01-31.
    #[arg(long, value_name = "TIME", value_parser = from)]
    from: Option<u64>,
    /// Before this moment, or to the end of this day in UTC.
    #[arg(long, value_name = "TIME", value_parser = to)]
    to: Option<u64>,
}

const WANTED: &str = "a moment as RFC 3339 has it with its zone, 2026-01-31T12:00:00Z, or a day, 2026-01-31";

fn from(text: &str) -> Result<u64, String> {
    when::parse(text).map(|(from, _)| from).ok_or_else(|| WANTED.to_string())
}

pub(super) fn to(text: &str) -> Result<u64, String> {
    when::parse(text).map(|(_, to)| to).ok_or_else(|| WANTED.to_string())
}

impl Range {
    /// From a moment on, and before another; milliseconds since 1970.
    pub(crate) fn between(from: u64, to: u64) -> Range {
        Range { from: Some(from), to: Some(to) }
    }

    /// When they begin, milliseconds since 1970.
    pub(super) fn begins(self) -> Option<u64> {
        self.from
    }

    /// From a moment on, milliseconds since 1970.
    pub(super) fn since(from: u64) -> Range {
        Range { from: Some(from), to: None }
    }

    /// Are these all?
    pub(crate) fn all(self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Is a frame of this hybrid logical time one of them?
    pub(crate) fn holds(self, hlc: u64) -> bool {
        self.meets(hlc, hlc)
    }

    /// May frames between these two be among them?
    pub(crate) fn meets(self, first_hlc: u64, last_hlc: u64) -> bool {
        self.from.is_none_or(|from| last_hlc >> 16 >= from) && self.to.is_none_or(|to| first_hlc >> 16 < to)
    }

    /// The same, so many milliseconds longer.
    pub(crate) fn longer(self, ms: u64) -> Range {
        Range { to: self.to.map(|to| to.saturating_add(ms)), ..self }
    }

    /// From a moment to another, milliseconds since 1970; the second is not one of them.
    #[cfg(feature = "tiers")]
    pub(crate) fn span(self) -> (u64, u64) {
        (self.from.unwrap_or(0), self.to.unwrap_or(u64::MAX))
    }
}
