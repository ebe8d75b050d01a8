//! Version 3 of the record: read, never written again.
//! Owns: nothing. Runs on: readers of journals. Called by: [`Record`].
//!
//! As version 4, without the time that reservations wait for notices.
use super::{Record, v5};
use crate::{auction::input::Inputs, record::codec::Read};

pub(super) const VERSION: u8 = 3;

/// What stands in the head, and nothing else.
pub(super) fn head(bytes: &[u8]) -> Read<Inputs> {
    v5::head_of::<3>(bytes, VERSION)
}

pub(super) fn decode(bytes: &[u8]) -> Read<Record> {
    v5::decode_of::<3>(bytes, VERSION)
}
