//! Label values of what is counted above the bidder cores: the journal, money, the way to Kafka.
//! Owns: nothing. Used by: flush, the threads of money, the shipper's.

closed! {
    /// Counts and levels of the journal, as flush has them.
    Journal {
        /// Writes that became durable.
        Writes = "writes",
        /// Bytes of them, with what blocks are filled up with.
        WriteBytes = "write_bytes",
        /// Writes that failed, and were repeated.
        FailedWrites = "writes",
        /// Segments that could not be made, and are tried again.
        FailedSegments = "segments",
        /// Checkpoints that could not be written and are tried again, files that could not be cut off or removed.
        FailedFiles = "files",
        /// Places in black boxes that were not as they had been published.
        Damages = "damages",
        /// 0: plenty of room; 1: little; 2: admission has stopped; 3: nothing can be written.
        Level = "level",
        /// 1: the file system refuses O_DIRECT, and writes go through the page cache with fdatasync.
        Buffered = "buffered",
        /// Bytes that the fullest black box holds.
        LagBytes = "lag_bytes",
        /// Notices that were the first of their kind.
        NoticesNew = "new",
        /// Notices that had been taken before, at another core or before a restart.
        NoticesAgain = "again",
        /// Notices that there was no room to tell apart: recorded, and nothing else.
        NoticesUntold = "untold",
        /// Calls to DSPs that wait or are under way.
        NoticesWaiting = "waiting",
        /// Age of the oldest of them, seconds.
        NoticesOldestS = "oldest_s",
        /// Notices that were another server's, to be handed over.
        NoticesTheirs = "theirs",
        /// Notices whose DSP was told.
        NoticesDone = "done",
        /// Notices whose DSP could not be told.
        NoticesDead = "dead",
        /// Billing notices that settled what was held.
        NoticesSettled = "settled",
        /// Billing notices that came when nothing was held any more.
        NoticesLate = "late",
        /// Charged and not confirmed by a notice yet, nano-units.
        NoticesHeld = "held",
        /// Gone home without a notice, or because of a lower price, nano-units.
        NoticesLapsed = "lapsed",
    }
}

closed! {
    /// Money above the bidder cores, as the threads of ledger and leases have it; no account by name.
    Money {
        /// Of the leases that the ledger remembers: granted.
        GranterGranted = "granted",
        /// Of that, came back.
        GranterReturned = "returned",
        /// Of leases with nothing out: did not come back.
        GranterSpent = "spent",
        /// Of what was spent: no record proves it.
        GranterForfeit = "forfeit",
        /// Reserved for notices.
        GranterHeld = "held",
        /// Out with holders that live.
        GranterLeased = "leased",
        /// Out with holders that are dead or did not renew.
        GranterQuarantined = "quarantined",
        /// Leases in the ledger.
        GranterLines = "ledger",
        /// Of those, in quarantine.
        QuarantinedLines = "quarantined",
        /// Leases of this machine.
        ServerLines = "server",
        /// Of those, ones that may be spent from.
        ServerOpenLines = "server_open",
        /// This machine was granted.
        ServerGranted = "granted",
        /// It gave back.
        ServerReturned = "returned",
        /// Its cores charged and did not free.
        ServerSpent = "spent",
        /// It has, with no core.
        ServerFree = "free",
        /// Its cores have and have not spent.
        ServerOnCores = "on_cores",
        /// Asks of the leases to the ledger.
        Asks = "asks",
        /// Leases in them.
        AskedLines = "leases",
        /// Asks that were sent again.
        Resent = "resent",
        /// Answers.
        Replies = "replies",
        /// Of all round trips, nanoseconds.
        RoundTripsNs = "round_trips_ns",
        /// Seconds until the first lease that is spent from runs dry without the ledger.
        AutonomyLeast = "least",
        /// Seconds of autonomy, each lease counted by what it spends.
        AutonomyMean = "mean",
        /// Accounts for which nothing is bought because something did not add up.
        Stopped = "stopped",
    }
}

closed! {
    /// The way to Kafka, as its thread has it.
    Ship {
        /// Messages that Kafka has, those that it got twice counted twice.
        Acknowledged = "acknowledged",
        /// Messages that it took as dead letters only.
        Dead = "dead",
        /// Bytes of messages that it has, before compression.
        Bytes = "bytes",
        /// Producers that were given up: a topic, a right, or the producer itself.
        GivenUp = "given_up",
        /// Places of the journal that were gone or could not be read.
        Lost = "lost",
        /// Bytes of the journal that are durable and not known to be in Kafka.
        Backlog = "backlog",
        /// Age of the oldest frame that is not known to be in Kafka, nanoseconds.
        Oldest = "oldest",
        /// 1: it waits for somebody to act.
        Stopped = "stopped",
        /// From record to acknowledgement in the last minute, nanoseconds: half of the blocks took no longer.
        DelayHalf = "0.5",
        /// All but one in a hundred.
        DelayMost = "0.99",
        /// Since the last dead letter, nanoseconds.
        DeadSince = "dead_since",
    }
}
