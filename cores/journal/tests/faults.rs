//! What a test can take out of the code it tests, to see that it would notice.
use outcry::journal::writer::Resume;
use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A write is called done when it is handed to the disk.
    DoneTooSoon,
    /// A segment's digest is told before all of the segment is in it.
    DigestTooSoon,
    /// A start takes whatever a black box holds, without a look at what the journal has.
    NoDeduplication,
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

pub(crate) fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// For [`Fault::NoDeduplication`]: whatever is offered first is next. A writer takes numbers in order, so what a black box
/// begins with is noted as if all before it, and nothing else, were there.
pub(crate) fn forget_positions(resume: Resume) -> Resume {
    if !planted(Fault::NoDeduplication) {
        return resume;
    }
    let begins = FIRST.with_borrow(|first| first.iter().map(|(key, seq)| (*key, seq - 1)).collect());
    Resume { positions: begins, ..resume }
}

thread_local! {
    /// With what each black box begins, for the fault above.
    pub(crate) static FIRST: std::cell::RefCell<Vec<((u32, u16), u64)>> = const { std::cell::RefCell::new(Vec::new()) };
}
