//! Version 2 of the record: read, never written again.
//! Owns: nothing. Runs on: readers of journals. Called by: [`Record`].
//!
//! As version 3, without the time at which the requests were out, trace, times of stages and accounts of winners, and
//! with answers of the funds that say yes or no.
use super::{
    Record, RecordError,
    parts::{Decoder, Follows, yes_or},
};
use crate::{
    auction::{funds::Answer, input::Inputs},
    record::codec::Read,
};

pub(super) const VERSION: u8 = 2;

/// What stands in the head, and nothing else.
pub(super) fn head(bytes: &[u8]) -> Read<Inputs> {
    read_head(bytes).map(|(d, _)| d.i)
}

pub(super) fn decode(bytes: &[u8]) -> Read<Record> {
    let (d, follows) = read_head(bytes)?;
    d.rest(&follows, |r, n, out| yes_or(Answer::NoMoney, r, n, out), |_| Err(RecordError::Value))
}

fn read_head(bytes: &[u8]) -> Read<(Decoder<'_>, Follows<0>)> {
    let mut d = Decoder::new(bytes);
    let follows = d.block::<0>(VERSION)?;
    d.user(&follows)?;
    d.head_texts(&follows)?;
    Ok((d, follows))
}
