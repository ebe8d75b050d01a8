//! When requests are due, which of them wait, and how long each took since it was due: an open loop's book-keeping.
//! Owns: the schedule, the queue of waiting requests, the histograms. Called by: `load`, with `now` in nanoseconds since
//! the start. Never: reads a clock or a socket; never lets a slow answer postpone the next request, which is what
//! makes closed-loop generators report a tenth of the truth ("coordinated omission").
//! Full: above [`WAITING_MAX`] waiting requests the oldest is given up and counted as never sent.
use super::rng::Rng;
use hdrhistogram::Histogram;
use std::collections::VecDeque;

/// Requests that wait for a connection. At 24 bytes each, 24 MB.
pub const WAITING_MAX: usize = 1_000_000;
/// Longest latency that is told apart from longer ones.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// A request whose time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// Counts from 0.
    pub seq: u64,
    /// When it should have been sent.
    pub due_ns: u64,
}

/// How requests are spaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spacing {
    /// Independent senders: exponential gaps.
    Poisson,
    /// Equal gaps.
    Constant,
}

/// A histogram of nanoseconds with three digits; above its range, its last bucket.
pub(super) fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).expect("constants: 2 * low <= high, at most 5 digits")
}

/// The book of one run.
pub struct Book {
    rng: Rng,
    spacing: Spacing,
    gap_ns: f64,
    end_ns: u64,
    next_due_ns: f64,
    next_seq: u64,
    waiting: VecDeque<Due>,
    /// Requests that have been due.
    pub due: u64,
    /// Requests that were handed to a connection before the arrivals ended.
    pub sent_in_time: u64,
    /// Requests that were handed to a connection.
    pub sent: u64,
    /// Requests that were given up before a connection was free.
    pub never_sent: u64,
    /// From due to answer.
    pub latency: Histogram<u32>,
    /// From due to being handed to a connection.
    pub waited: Histogram<u32>,
    /// From due to answer, since [`Book::turn_page`].
    pub page: Histogram<u32>,
}

impl Book {
    /// `rate` requests a second for `seconds`.
    pub fn new(rate: f64, seconds: f64, spacing: Spacing, seed: u64) -> Book {
        let gap_ns = 1e9 / rate.clamp(0.001, 1e9);
        let mut book = Book {
            rng: Rng::new(seed),
            spacing,
            gap_ns,
            end_ns: (seconds.max(0.0) * 1e9) as u64,
            next_due_ns: 0.0,
            next_seq: 0,
            waiting: VecDeque::with_capacity(4096),
            due: 0,
            sent_in_time: 0,
            sent: 0,
            never_sent: 0,
            latency: histogram(),
            waited: histogram(),
            page: histogram(),
        };
        book.next_due_ns = book.gap();
        book
    }

    fn gap(&mut self) -> f64 {
        match self.spacing {
            Spacing::Constant => self.gap_ns,
            Spacing::Poisson => self.rng.exponential(self.gap_ns),
        }
    }

    /// Moves what is due by now into the queue.
    pub fn advance(&mut self, now_ns: u64) {
        while let Some(due_ns) = self.next_due().filter(|&due| due <= now_ns) {
            if self.waiting.len() == WAITING_MAX && self.waiting.pop_front().is_some() {
                self.never_sent += 1;
            }
            self.waiting.push_back(Due { seq: self.next_seq, due_ns });
            self.due += 1;
            self.next_seq += 1;
            self.next_due_ns += self.gap();
        }
    }

    /// Nothing is due from now on.
    pub fn end(&mut self, now_ns: u64) {
        self.end_ns = self.end_ns.min(now_ns);
    }

    /// When the next request is due; `None` after the last.
    pub fn next_due(&self) -> Option<u64> {
        let due = self.next_due_ns as u64;
        (due < self.end_ns).then_some(due)
    }

    /// Gives the oldest waiting request to a connection.
    pub fn take(&mut self, now_ns: u64) -> Option<Due> {
        let due = self.waiting.pop_front()?;
        self.sent += 1;
        self.sent_in_time += u64::from(now_ns <= self.end_ns);
        self.waited.saturating_record(now_ns.saturating_sub(due.due_ns));
        Some(due)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Gives up requests that were due more than `timeout_ns` ago.
    pub fn expire(&mut self, now_ns: u64, timeout_ns: u64) {
        while self.waiting.front().is_some_and(|d| now_ns.saturating_sub(d.due_ns) >= timeout_ns) {
            self.waiting.pop_front();
            self.never_sent += 1;
        }
    }

    /// An answer came. Its latency counts from when its request was due.
    pub fn answered(&mut self, due: Due, now_ns: u64) {
        let latency = now_ns.saturating_sub(due.due_ns);
        self.latency.saturating_record(latency);
        self.page.saturating_record(latency);
    }

    /// Starts a new page of the live table.
    pub fn turn_page(&mut self) {
        self.page.reset();
    }

    /// Nothing will be due any more and nothing waits.
    pub fn is_over(&self) -> bool {
        self.next_due().is_none() && self.waiting.is_empty()
    }

    /// Part of the due requests that a connection took while arrivals went on; 1 is all.
    pub fn achieved(&self) -> f64 {
        if self.due == 0 { 1.0 } else { self.sent_in_time as f64 / self.due as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::{Book, Due, Spacing};

    const MS: u64 = 1_000_000;

    #[test]
    fn latency_counts_from_the_moment_a_request_was_due() {
        // One request a millisecond, one connection that answers in 0.1 ms but stalls once, for 100 ms.
        let mut book = Book::new(1_000.0, 0.2, Spacing::Constant, 1);
        let mut now = 0;
        for turn in 0..199 {
            let due = (turn + 1) * MS;
            now = now.max(due);
            book.advance(now);
            let taken = book.take(now).expect("one is due");
            assert_eq!(taken, Due { seq: turn, due_ns: due });
            now += if turn == 50 { 100 * MS } else { MS / 10 };
            book.answered(taken, now);
        }
        assert!(book.is_over());
        assert_eq!((book.due, book.sent, book.never_sent, book.latency.len()), (199, 199, 0, 199));
        // Behind the stalled request about 110 others waited: a closed loop would have called them fast.
        assert!(book.latency.count_between(10 * MS, 200 * MS) > 95);
        assert!(book.latency.value_at_quantile(0.5) > 5 * MS);
        assert!(book.latency.max() >= 99 * MS && book.latency.max() < 102 * MS);
    }

    #[test]
    fn both_spacings_keep_their_rate() {
        for spacing in [Spacing::Poisson, Spacing::Constant] {
            let mut book = Book::new(10_000.0, 10.0, spacing, 3);
            book.advance(u64::MAX / 2);
            assert!((99_000..=101_000).contains(&book.due), "{spacing:?}: {}", book.due);
            assert_eq!(book.next_due(), None);
            let (mut last, mut gaps) = (0, Vec::new());
            while let Some(d) = book.take(d_end()) {
                gaps.push(d.due_ns - last);
                last = d.due_ns;
            }
            let short = gaps.iter().filter(|g| **g < 50_000).count();
            // Half the mean gap: 1 - e^-0.5 = 39 % of the gaps of a Poisson process are shorter.
            let expected = if spacing == Spacing::Poisson { 36_000..43_000 } else { 0..1 };
            assert!(expected.contains(&short), "{spacing:?}: {short}");
        }
    }

    fn d_end() -> u64 {
        11_000 * MS
    }

    #[test]
    fn what_waits_too_long_is_given_up_and_counted() {
        let mut book = Book::new(1_000.0, 1.0, Spacing::Constant, 1);
        book.advance(100 * MS);
        assert_eq!(book.waiting(), 100);
        book.expire(100 * MS, 50 * MS);
        assert_eq!((book.waiting(), book.never_sent), (50, 50));
        assert_eq!(book.take(100 * MS).map(|d| d.seq), Some(50));
        assert!(book.achieved() < 0.02);
        assert!(!book.is_over());
    }

    #[test]
    fn an_end_ahead_of_time_is_the_end() {
        let mut book = Book::new(1_000.0, 1.0, Spacing::Constant, 1);
        book.advance(10 * MS);
        book.end(10 * MS);
        book.advance(20 * MS);
        assert_eq!((book.due, book.next_due()), (10, None));
        assert!(!book.is_over(), "ten wait");
        while book.take(20 * MS).is_some() {}
        assert!(book.is_over());
    }

    #[test]
    fn sending_after_the_end_is_not_keeping_the_rate() {
        let mut book = Book::new(1_000.0, 0.1, Spacing::Constant, 1);
        book.advance(100 * MS);
        for i in 0..99u64 {
            book.take(if i < 90 { 99 * MS } else { 101 * MS });
        }
        assert!((book.achieved() - 90.0 / 99.0).abs() < 1e-9);
        assert!(book.is_over());
    }
}
