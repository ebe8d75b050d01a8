//! Faults of a producer, for tests that must find them. Compiled into tests alone.
use super::map::WriteEnd;
use outcry::record::frame::{self, Header};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    None,
    /// The frame gets no checksum.
    NoChecksum,
    /// The head moves before the frame is there.
    HeadFirst,
}

impl Fault {
    /// Publishes wrongly; `false`: not planted, nothing is done.
    pub(super) fn planted(self, end: &mut WriteEnd, len: usize, header: &Header) -> bool {
        match self {
            Fault::None => return false,
            Fault::NoChecksum => {
                let bytes = frame::seal(end.room(), len, header);
                end.room()[4..8].fill(0);
                end.publish(bytes, header.seq);
            }
            Fault::HeadFirst => end.publish_early(frame::padded(len), header.seq, |room| {
                // As long as many frames take, so that being killed here is likely.
                (0..2_000).for_each(|_| std::hint::spin_loop());
                frame::seal(room, len, header);
            }),
        }
        true
    }
}
