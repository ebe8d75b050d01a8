//! Version 4 of the record: read, never written again.
//! Owns: nothing. Runs on: readers of journals. Called by: [`Record`].
//!
//! As version 5, without the probability with which a DSP was asked and without house ads.
use super::{Record, v5};
use crate::{auction::input::Inputs, record::codec::Read};

pub(super) const VERSION: u8 = 4;

/// What stands in the head, and nothing else.
pub(super) fn head(bytes: &[u8]) -> Read<Inputs> {
    v5::head_of::<4>(bytes, VERSION)
}

pub(super) fn decode(bytes: &[u8]) -> Read<Record> {
    v5::decode_of::<4>(bytes, VERSION)
}
