//! How the way to Kafka stands, for metrics.
//! Owns: figures as the shipper's thread last said. Runs on: that thread writes, control renders. Called by: `cores/ship`, the
//! exposition.
use crate::record::labels::Ship;

/// See the module. Nothing of it is shown where there is no Kafka.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShipFigures([Option<u64>; Ship::COUNT]);

impl ShipFigures {
    /// A figure is this, times in nanoseconds; `None`: there is nothing that it could be about.
    pub fn set(&mut self, figure: Ship, value: impl Into<Option<u64>>) {
        self.0[figure as usize] = value.into();
    }

    /// A figure.
    pub fn get(&self, figure: Ship) -> Option<u64> {
        self.0[figure as usize]
    }
}
