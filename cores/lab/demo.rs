//! x
/// One DSP.
#[derive(Clone, Debug, Default)]
pub struct DspRow {
    /// Its name.
    pub name: String,
    /// Requests.
    pub asked: u64,
    /// Bids.
    pub bids: u64,
    /// No bids.
    pub no_bids: u64,
    /// Late.
    pub timeouts: u64,
    /// Errors.
    pub errors: u64,
    /// Wins.
    pub wins: u64,
}
