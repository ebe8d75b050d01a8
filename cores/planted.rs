//! Faults that a debug build commits when the environment names one, so that it is known that `scripts/kills` finds them.
//! A release build has none of this: [`planted`] is a constant there.
//! Owns: the name, read once. Called by: whoever keeps the record. Never: true without `OUTCRY_TEST_FAULT`.

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// `published-late`: a record is published when the next auction is let in, long after its answer was sent.
    PublishedLate,
    /// `released-early`: a black box forgets what was read, whether or not the disk has it.
    ReleasedEarly,
    /// `no-checksum`: a frame is published without its checksum.
    NoChecksum,
    /// `no-deduplication`: what is read out goes into the journal, whether or not it is there already.
    NoDeduplication,
    /// `no-reservation`: auctions are let in without room for their records, which are lost when there is none.
    NoReservation,
    /// `settled-unread`: what a dead process spent since its last cut is not counted, and its money comes home.
    SettledUnread,
    /// `grant-not-kept`: a grant is used before it is durable, and never is.
    GrantNotKept,
    /// `notice-unrecorded`: one notice in eight is acknowledged without a record.
    NoticeUnrecorded,
    /// `notice-twice`: a notice that was taken before is acted on once more.
    NoticeTwice,
    /// `notices-unread`: a start does not read what notices were recorded behind the last checkpoint.
    NoticesUnread,
    /// `holds-forgotten`: a start does not know what waits for notices of starts that are dead.
    HoldsForgotten,
    /// `cursor-early`: how far the journal is in Kafka is what was read, not what was acknowledged.
    CursorEarly,
    /// `key-changed`: messages that are sent again have another key.
    KeyChanged,
    /// `dead-unplaced`: dead letters do not say where they are from.
    DeadUnplaced,
    /// `export-cut-off`: an export ends as by a kill, before it writes the object behind the first `OUTCRY_TEST_AFTER`.
    #[cfg(feature = "tiers")]
    ExportCutOff,
}

/// Is this fault to be committed?
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}

/// Is this fault to be committed?
#[cfg(debug_assertions)]
pub(crate) fn planted(fault: Fault) -> bool {
    static NAMED: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    *NAMED.get_or_init(|| named(&std::env::var("OUTCRY_TEST_FAULT").ok()?)) == Some(fault)
}

/// The fault of this name; a name that is none stops the process: a test that plants nothing would prove nothing.
#[cfg(debug_assertions)]
fn named(name: &str) -> Option<Fault> {
    Some(match name {
        "published-late" => Fault::PublishedLate,
        "released-early" => Fault::ReleasedEarly,
        "no-checksum" => Fault::NoChecksum,
        "no-deduplication" => Fault::NoDeduplication,
        "no-reservation" => Fault::NoReservation,
        "settled-unread" => Fault::SettledUnread,
        "grant-not-kept" => Fault::GrantNotKept,
        "notice-unrecorded" => Fault::NoticeUnrecorded,
        "notice-twice" => Fault::NoticeTwice,
        "notices-unread" => Fault::NoticesUnread,
        "holds-forgotten" => Fault::HoldsForgotten,
        "cursor-early" => Fault::CursorEarly,
        "key-changed" => Fault::KeyChanged,
        "dead-unplaced" => Fault::DeadUnplaced,
        #[cfg(feature = "tiers")]
        "export-cut-off" => Fault::ExportCutOff,
        other => panic!("OUTCRY_TEST_FAULT={other}: there is no such fault"),
    })
}
