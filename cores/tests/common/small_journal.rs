//! A journal whose segments are as small as they can be, so that few frames fill several.
use outcry::journal::{
    PAGE,
    retention::{Levels, Retention},
    writer::Settings,
};
use outcry_cores::journal::JournalSettings;

/// The machine whose it is.
pub(crate) const NODE: u32 = 0xab;

/// Nothing of it goes.
pub(crate) fn settings() -> JournalSettings {
    let mut writer =
        Settings { node: NODE, segment_bytes: 0, block_bytes: 4 * PAGE, depth: 4, reserve_bytes: 0, entropy: 3 };
    writer.segment_bytes = writer.segment_bytes_min();
    JournalSettings {
        writer,
        checkpoint_bytes: 1 << 20,
        retention: Retention { age_ms: u64::MAX, bytes_max: u64::MAX },
        levels: Levels { low: 0, keep: 0 },
    }
}
