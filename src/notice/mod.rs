//! Notices: what exchanges and browsers tell us minutes after an auction, and what we tell DSPs of it.
//!
//! | part | what it knows |
//! |---|---|
//! | [`keys`] | secrets that sign, by number, so that they can be changed while old URLs are out |
//! | [`token`] | a notice URL of ours: what it carries, how it is signed, why one is refused |
//! | [`target`] | where a DSP's URL leads, and why one is not carried by ours |
//! | [`price`] | what a notice that names a price comes to |
//! | [`told`] | the records of a notice and of what came of telling its DSP |
//! | [`outbox`] | whom to tell next, how often to try, when to give up |
//! | [`holds`] | what is charged when its notice comes: what is still awaited, what goes home |
//! | [`peers`] | other servers, whose notices came here |
//! | [`seen`] | which notices have been taken, one bit each, also after a restart |
//! | [`checkpoint`] | these three at a moment, for the next start |
//! | [`sealed`] | a price that only its DSP can read: the 28 bytes of the field |
//!
//! Never: a table of URLs between auction and notice. Whatever a notice needs is in its token, under the signature.
pub mod checkpoint;
pub mod holds;
pub mod keys;
pub mod outbox;
pub mod peers;
pub mod price;
pub mod sealed;
pub mod seen;
pub mod target;
pub mod token;
pub mod told;
