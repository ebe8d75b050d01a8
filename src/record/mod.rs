//! What leaves a bidder core besides answers: metrics, summed there and merged once a second.
pub mod exposition;
pub mod labels;
pub mod metrics;
pub mod slots;
pub mod table;
pub mod totals;
