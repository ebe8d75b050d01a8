//! Publishing into a black box: what a record costs a bidder core besides its encoding.
//! Owns: a box on the tmpfs, removed at the end. Called by: `micro`.
use crate::counted;
use outcry::record::{
    blackbox::Identity,
    frame::{HEADER, Kind},
};
use outcry_cores::blackbox::{Made, Stamp, create, file::SHARED_MEMORY};
use std::{hint::black_box, path::Path};

/// A frame of a common auction.
const FRAME: usize = 1_500;
/// What admission reserves: more than is used.
const RESERVED: usize = 16 * 1024;

pub(crate) struct BlackBox {
    made: Option<Made>,
}

impl BlackBox {
    pub(crate) fn new() -> BlackBox {
        let identity = Identity { node: std::process::id(), epoch: 1, ..Identity::default() };
        let made = create(Path::new(SHARED_MEMORY), 1 << 20, identity);
        BlackBox { made: Some(made.unwrap_or_else(|e| panic!("{e}"))) }
    }

    /// Room reserved, a frame begun, published, the rest of the room given back. The payload is in its place before: it is
    /// encoded there.
    pub(crate) fn publish(&mut self, count: bool) {
        let Some(Made { producer, consumer, .. }) = &mut self.made else { return };
        assert!(producer.reserve(RESERVED));
        producer.begin().room()[..FRAME - HEADER].fill(7);
        producer.refund(RESERVED);
        counted(count, || {
            assert!(producer.reserve(black_box(RESERVED)));
            let mut entry = producer.begin();
            black_box(entry.room());
            let used = entry.publish(black_box(FRAME - HEADER), Stamp { kind: Kind::Auction, version: 1, hlc: 1 });
            producer.refund(RESERVED - used);
        });
        // Flush, now and then: half a ring of frames at once.
        if producer.room() < 1 << 19 {
            while let Ok(Some(batch)) = consumer.read(1 << 16) {
                let mark = batch.mark;
                consumer.release(mark);
            }
        }
    }
}

impl Drop for BlackBox {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            let _ = made.file.remove();
        }
    }
}
