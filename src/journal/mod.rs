//! The journal: every frame on disk, in segments of checked and chained blocks. The format is `SPEC.md` in this folder,
//! exact enough to write a reader from it alone; `scripts/journal.py` is one that was.
//!
//! Bytes and what the disk said come in; bytes to write, positions that are durable, findings and verdicts go out. Files
//! are opened, written and read by `outcry-cores`.
//!
//! Reading order: [`segment`] (files and their headers), [`block`] (what is written at once), [`positions`] (how far each
//! writer's frames have come), [`writer`] (several writes in flight, in order), [`digest`] (what the next segment says of the
//! one before), [`reader`] (torn tails and damage), [`verify`] (a whole directory), [`checkpoint`], [`index`],
//! [`retention`].
pub mod block;
mod bytes;
pub mod checkpoint;
pub mod digest;
mod filling;
mod flight;
#[cfg(test)]
mod golden_tests;
pub mod index;
pub mod positions;
pub mod reader;
pub mod retention;
pub mod segment;
mod terms;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod writer;

/// What everything in a segment is aligned to: the largest logical block of disks, and what O_DIRECT is content with.
pub const PAGE: usize = 4096;
