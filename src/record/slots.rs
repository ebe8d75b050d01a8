//! Which row of the metrics a DSP counts in. Its place in the configuration changes with reloads and never leaves
//! the process; its row stays for as long as the process lives, found again by its name.
//! Owns: the names. Runs on: control, at the start and at each reload.
//! Full: DSPs beyond the last row share the row "other".
use crate::{limits::DSPS_MAX, units::DspIx};

/// Names of DSPs, each at the row it counts in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DspSlots {
    names: Vec<String>,
    rows: usize,
}

/// Rows to make for a configuration of this many DSPs, everywhere rows are made: some room for DSPs that come with
/// reloads, as rows are made once. 13 KB each, twice per core.
pub fn rows_for(dsps: usize) -> usize {
    (dsps + SPARE_ROWS).min(DSPS_MAX)
}

const SPARE_ROWS: usize = 8;

impl DspSlots {
    /// `rows` is what the cores' [`super::metrics::CoreMetrics`] were made for.
    pub fn new(rows: usize) -> DspSlots {
        DspSlots { names: Vec::new(), rows }
    }

    /// The row of each of these DSPs, in their order; unknown names get the next free one, or the shared last.
    pub fn assign<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Vec<DspIx> {
        names.into_iter().map(|name| DspIx(self.row(name) as u16)).collect()
    }

    fn row(&mut self, name: &str) -> usize {
        if let Some(at) = self.names.iter().position(|n| n == name) {
            return at;
        }
        if self.names.len() < self.rows {
            self.names.push(name.to_owned());
            return self.names.len() - 1;
        }
        self.rows
    }

    /// Names in the order of their rows.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_reloads_and_the_last_is_shared() {
        let mut slots = DspSlots::new(3);
        assert_eq!(slots.assign(["a", "b"]), [DspIx(0), DspIx(1)]);
        assert_eq!(slots.assign(["b", "c", "d", "a", "e"]), [DspIx(1), DspIx(2), DspIx(3), DspIx(0), DspIx(3)]);
        assert_eq!(slots.names(), ["a", "b", "c"]);
    }
}
