//! Every capacity, written as a sum whose terms are explained. What is configurable has its hard maximum here.
//! Owns: nothing. Used by: every module that holds more than one of anything.
use crate::{auction, budget, record};

// --- one auction ---------------------------------------------------------------------------------

/// DSPs in one configuration. Bit sets over DSPs fit in one word.
pub const DSPS_MAX: usize = 64;
/// DSPs asked in one auction: K of the shaping literature is 5 to 10; above 16 the sends alone cost more
/// than the sixteenth bid is worth.
pub const ASKED_MAX: usize = 16;
/// How many of them are asked if nobody says otherwise.
pub const ASKED_DEFAULT: usize = 10;
/// Publishers or deals that one DSP names.
pub const NAMED_MAX: usize = 1_024;
/// Exchanges (senders of requests) in one configuration.
pub const EXCHANGES_MAX: usize = 64;
/// Impressions in one request. Prebid pages with 20 slots exist; pods of 40 were seen.
pub const IMPS_MAX: usize = 64;
/// Deals in one request, over all impressions.
pub const DEALS_MAX: usize = 256;
/// Strings in all lists of a request (`badv` of some thousand entries are real).
pub const TEXTS_MAX: usize = 16_384;
/// Bids looked at in one answer; Xandr takes 15. The rest is counted as [`crate::openrtb::codes::Loss::TooMany`].
pub const BIDS_PER_ANSWER_MAX: usize = 64;
/// Bids looked at in one auction.
pub const BIDS_MAX: usize = 256;
/// `group=1` seatbids over several impressions that take part in one auction: sets of them are compared, so the
/// work doubles with each; 256 small sums at 8. The least valuable of more lose as
/// [`crate::openrtb::codes::Loss::GroupSearch`].
pub const GROUPS_MAX: usize = 8;
/// JSON nesting that is followed; OpenRTB itself needs 9.
pub const JSON_DEPTH_MAX: usize = 64;

/// Longest string that the decision record keeps of a bid or an impression; longer ones are cut with a mark.
pub const RECORD_TEXT_MAX: usize = 128;
/// House ads in one configuration.
pub const HOUSE_ADS_MAX: usize = 32;
/// Longest markup of one, in characters.
pub const HOUSE_ADM_MAX: usize = 16_384;
/// Longest `crid` of a house ad: it stands in the record in a winner's place.
pub const HOUSE_CRID_MAX: usize = 40;
/// Longest encoded decision record: a head; each impression, deal, DSP asked or not, bid (with its five texts,
/// seven tenths of the sum) and winner; the funds' answers as bits. Some 240 KB when everything is at its bound at once; what
/// one auction can need follows from its request ([`auction::record::bound()`]).
pub const RECORD_BYTES_MAX: usize = auction::record::room::MAX;
/// Room in a record for the bids of one DSP on one impression: the default. One bid whose five texts are all as long as
/// they may be, or seven usual ones.
pub const RECORD_BID_BYTES_DEFAULT: usize = 1_024;
/// The least and the most that it may be: nothing (each DSP has room for its first bid all the same), and every bid
/// that is looked at.
pub const RECORD_BID_BYTES_MAX: usize = 64 * 1024;

/// Writes of the journal that are under way at once.
pub const JOURNAL_DEPTH: usize = 8;
/// Its longest block: the longest record fits.
pub const JOURNAL_BLOCK_BYTES: usize = 256 * 1024;
/// The smallest segment of a journal: everything that can be under way moves into the next one when a disk fails.
pub const SEGMENT_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// The black box of a core: the default. At 16,000 auctions a second of 1.5 KB, two and a half seconds of them; or the
/// promises to 4,096 usual auctions in flight.
pub const BOX_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// The least: two of the longest records.
pub const BOX_BYTES_MIN: u64 = 512 * 1024;
/// The most.
pub const BOX_BYTES_MAX: u64 = 1 << 36;

const _: () = assert!(RECORD_BYTES_MAX + 1024 < JOURNAL_BLOCK_BYTES && 2 * RECORD_BYTES_MAX < BOX_BYTES_MIN as usize);

/// A core's requests and answers on their way to be kept whole: 8 MB are 900 auctions of 9 KB, or 55 ms at 16,000 auctions
/// a second when all are kept. One auction's go in together or not at all, so this is also the most of one.
pub const RAW_RING_BYTES: usize = 8 * 1024 * 1024;
/// They are written in blocks of about so many bytes, each a gzip member: a torn file loses its last one.
pub const RAW_BLOCK_BYTES: usize = 256 * 1024;
/// Longest file of them; a shorter one where few bytes are to be kept, so that what goes is an eighth at most.
pub const RAW_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The least that may be told to be kept of them.
pub const RAW_KEEP_BYTES_MIN: u64 = 1024 * 1024;

/// Longest payload of the other records, each with its sum in its module: the second's refusals of every exchange and
/// reason (48 KB, written by flush alone), a sample of one, a change of the configuration, a start, a stop, a mark.
pub const REFUSALS_BYTES_MAX: usize = record::refusals::BYTES_MAX;
/// A refused request.
pub const REFUSAL_SAMPLE_BYTES_MAX: usize = record::refusal_sample::BYTES_MAX;
/// A start of the process.
pub const STARTED_BYTES_MAX: usize = record::started::BYTES_MAX;
/// A change of an account.
pub const MOVEMENT_BYTES_MAX: usize = budget::movement::BYTES_MAX;
/// What happened to leases: lines that ended, 64 of them.
pub const LEASE_EVENT_BYTES_MAX: usize = budget::event::BYTES_MAX;
/// The mark behind everything a process wrote.
pub const CLEAN_BYTES_MAX: usize = record::stopped::CLEAN_BYTES_MAX;

// --- money ----------------------------------------------------------------------------------------

/// Campaigns in a core's ledger: the default of what an operator may set, and what there is room for beyond those of the start
/// (`budget.accounts`). At 285 bytes each this is 1.2 MB; 110,000, which are 100,000 and a tenth whose windows are not over
/// yet, are 32 MB.
pub const BUDGET_ACCOUNTS_DEFAULT: usize = 4_096;
/// The least that may be set.
pub const BUDGET_ACCOUNTS_MIN: usize = 64;
/// Beyond the campaigns of a start there is room for one in so many, however few are configured: some are added, and some that
/// ended have windows that are not over yet.
pub const BUDGET_ACCOUNTS_SPARE: usize = 10;
/// Requests whose notices are told apart: 32,768 pages of 512 (`notice::seen`), 26 MB. Some 4,600 a second for an hour.
pub const NOTICES_AUCTIONS_DEFAULT: usize = 16 << 20;
/// Room that a head needs for a notice of ours: the longest token, what its URL begins with, a query, and a browser's headers.
pub const NOTICE_HEAD_BYTES: usize = 4_096;
/// The least that may be set.
pub const NOTICES_AUCTIONS_MIN: usize = 4_096;
/// The most: 3.4 GB.
pub const NOTICES_AUCTIONS_MAX: usize = 1 << 31;
/// Longest markup that is fetched from behind a `nurl`: what stands in an `adm` is seldom a tenth of it.
pub const MARKUP_BYTES_MAX: usize = 64 * 1024;
/// Hosts at which one DSP takes notices.
pub const NOTICE_HOSTS_MAX: usize = 8;
/// Other servers that notices are handed to.
pub const NOTICE_PEERS_MAX: usize = 64;
/// Connections of one core to one of them.
pub const NOTICE_CONNECTIONS_MAX: usize = 64;
/// Calls to DSPs that wait or are under way, on the whole machine: with URLs of [`crate::notice::target::CALL_URL_MAX`] bytes at
/// most 20 MB. What comes on top is a dead letter at once, and can be replayed.
pub const NOTICES_WAITING_MAX: usize = 8_192;
/// Of those, for one host: one that hangs does not take the room of all.
pub const NOTICES_WAITING_HOST_MAX: usize = 2_048;
/// Calls under way on one core. Flush hands out and hears once a commit, some 20 ms: 6,400 calls a second.
pub const NOTICES_CALLS: usize = 256;
/// Room for each one's seat and campaign id: 44 bytes (a UUID and eight more) in pieces of 16.
pub const BUDGET_NAME_BYTES: usize = 48;
/// DSPs that accounts and configurations name: those of a configuration, and as many that were in one before.
pub const BUDGET_DSP_NAMES: usize = 2 * DSPS_MAX;
/// Changes of a core's directory that are applied in one go: at some 300 ns each less than 0.1 ms.
pub const BUDGET_BATCH_MAX: usize = 256;
/// Accounts on one core whose sums have changed since its server heard of them, before bids on others are refused: at 16,000
/// auctions a second and 20 ms a tick some 320 win; this is half a second in which the server hears nothing.
pub const BUDGET_DIRTY_MAX: usize = 8_192;
/// Beyond that, room for what must be noted: accounts of answers that did not arrive, in that half second.
pub const BUDGET_DIRTY_RESERVE: usize = 1_024;
/// Wants that travel before the next tick, in one turn: two for each auction of a turn and DSP of ten.
pub const BUDGET_URGENT_MAX: usize = 2 * 64 * 10;
/// Lines told to stop that a core does not have, until the next tick says so: those of a batch.
pub const BUDGET_STRANGERS_MAX: usize = BUDGET_BATCH_MAX;
/// Slots from a core to its server: a whole statement, two lines an account, with its end; strangers; what is urgent.
pub const BUDGET_REPORT_SLOTS: usize =
    2 * (BUDGET_DIRTY_MAX + BUDGET_DIRTY_RESERVE) + 1 + BUDGET_STRANGERS_MAX + BUDGET_URGENT_MAX;
/// Slots from a server to a core: what it grants within some milliseconds; what has no room waits, one grant a line, and renewals for
/// half of it.
pub const BUDGET_GRANT_SLOTS: usize = 4_096;
/// Batches of names on their way to a core.
pub const BUDGET_NAMES_SLOTS: usize = 4;
/// Accounts that a tick looks at though nothing was heard of them (idle, expired): at 50 ticks a second 110,000 in nine.
pub const BUDGET_SWEEP: usize = 256;
/// Auctions whose delivery is not known: at the default of 4,096 in flight, four times that, as numbers are not dense.
pub const BUDGET_TICKETS: usize = 4 * AUCTIONS_DEFAULT;

// --- HTTP ----------------------------------------------------------------------------------------

/// Headers looked at in one head.
pub const HEADERS_MAX: usize = 64;
/// Head of a request: the default and what an operator may set.
pub const HEAD_BYTES_DEFAULT: usize = 8 * 1024;
/// Hard maximum of the head.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Body of a request, after inflation: the default (Prebid Server's too).
pub const BODY_BYTES_DEFAULT: usize = 256 * 1024;
/// Hard maximum of the body.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that a packed body may inflate to however small it is: no more is lost on one than on a long request.
pub const INFLATED_BYTES_FREE: usize = 64 * 1024;
/// Beyond [`INFLATED_BYTES_FREE`], bytes that each byte of a packed body may inflate to. Bodies of OpenRTB come to 10 or 20,
/// one that repeats its deals and categories for every impression to some 50; deflate itself ends at about 1,030. So who
/// wants a core to inflate and read a body at its limit has to send a hundredth of it.
pub const INFLATED_RATIO_MAX: usize = 100;
/// Body of a DSP's answer, after inflation.
pub const ANSWER_BYTES_DEFAULT: usize = 256 * 1024;
/// Hard maximum of a DSP's answer.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Heads of a DSP's answer, interim ones included.
pub const ANSWER_HEAD_BYTES: usize = 16 * 1024;
/// Auctions in progress on one connection; the ninth request waits in the socket.
pub const PIPELINE_MAX: usize = 8;

// --- one bidder core -----------------------------------------------------------------------------

/// A buffer that grew beyond this is freed after use, so that one huge message does not stay paid for.
pub const BUFFER_BYTES_KEPT: usize = 16 * 1024;
/// Bidder cores of one process.
pub const CORES_MAX: usize = 256;
/// Auctions in flight on one core: the default. At 16 KB each, 64 MB.
pub const AUCTIONS_DEFAULT: usize = 4_096;
/// Hard maximum of auctions in flight on one core.
pub const AUCTIONS_MAX: usize = 65_536;
/// Client connections of one core: the default.
pub const CLIENTS_DEFAULT: usize = 8_192;
/// Client connections of one core, beside those it lets in, that are on their way out in favour of others.
pub const CLIENTS_LEAVING_MAX: usize = 64;
/// Bytes of answers on one core that clients do not take. A connection holds 16 answers at most, eight with the kernel and
/// eight behind them, and is closed after `http.write_ms`; but 13,000 answers a second of 2.5 KB come to 160 MB in five
/// seconds, and longer ones to more. Honest clients leave nothing lying: this is 25,000 answers.
pub const UNTAKEN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Hard maximum of client connections.
pub const CLIENTS_MAX: usize = 65_536;
/// Connections of one core to one DSP: the default.
pub const DSP_CONNECTIONS_DEFAULT: usize = 1_024;
/// Hard maximum of connections of one core to one DSP.
pub const DSP_CONNECTIONS_MAX: usize = 16_384;

const _: () = assert!(ASKED_MAX <= DSPS_MAX && DSPS_MAX <= 64);
const _: () = assert!(BIDS_PER_ANSWER_MAX <= BIDS_MAX);
const _: () = assert!(TEXTS_MAX <= u16::MAX as usize);
const _: () = assert!(HEAD_BYTES_DEFAULT <= HEAD_BYTES_MAX && BODY_BYTES_DEFAULT <= BODY_BYTES_MAX);

// --- budgets -------------------------------------------------------------------------------------

/// Accounts, ended ones too, since numbers and names are not given again: 100,000 active campaigns, and ten times as many
/// that are over. Some 400 bytes each where grants are made.
pub const ACCOUNTS_MAX: usize = 1_000_000;
/// Longest name of an account, and of who changed one.
pub const ACCOUNT_NAME_MAX: usize = 64;

// --- rings between threads ------------------------------------------------------------------------

/// Boxes of metric deltas of one core: one that is counted into, one that is with flush or on its way.
pub const DELTAS_PER_CORE: usize = 2;
/// Slots from a core to flush: its boxes.
pub const TO_FLUSH_SLOTS: usize = DELTAS_PER_CORE;
/// Slots from flush to a core: its boxes, so that giving one back never fails, and what there is to say of the disk: a core
/// looks once a second, and flush says no more than that.
pub const FROM_FLUSH_SLOTS: usize = DELTAS_PER_CORE + 2;
/// Slots from control to a core: two configurations in quick succession, one salt, one drain, its shares of quotas, one in hand.
pub const TO_CORE_SLOTS: usize = 2 + 1 + 1 + 1 + 1;
/// Slots from a core to control: ready, drained, panicked, what it wants of quotas, and five retired configurations.
pub const FROM_CORE_SLOTS: usize = 1 + 1 + 1 + 1 + 5;
/// Boxes of totals that flush makes for control. Control brings a third, the empty totals it shows first.
pub const TOTALS_BOXES: usize = 2;
/// Slots from flush to control: the boxes, one more for the last totals when all are away, and one `Stopped`.
pub const FLUSH_TO_CONTROL_SLOTS: usize = TOTALS_BOXES + 1 + 1;
/// Slots from control to flush: the boxes, the one that control brought, one `Stop`, and two configurations or bundles of notes.
pub const CONTROL_TO_FLUSH_SLOTS: usize = TOTALS_BOXES + 1 + 1 + 2;
/// Notes on money in one bundle from control to flush: twenty bundles a second are more than a file of 100,000 budgets takes long
/// for, and one bundle is a quarter of a megabyte at most.
pub const NOTES_MAX: usize = 128;

// --- money ----------------------------------------------------------------------------------------

/// Campaigns of one server that are spent from at once.
pub const CAMPAIGNS_MAX: usize = 100_000;
/// Lines of a server: each campaign's running window, the next one, which is leased ahead of its begin, and the one
/// before, until its last delivery is known. 120 bytes each, and for each core 64 more while any core has some of it.
pub const LINES_MAX: usize = 3 * CAMPAIGNS_MAX;
/// Lines in one ask, so that one is committed in milliseconds: the rest follows with the next.
pub const ASK_LINES_MAX: usize = 4_096;
/// Accounts that a server has no line of and asks for; a bid on a further one is refused and asks again.
pub const FIRST_TOUCHES_MAX: usize = 8_192;
/// Accounts that a server has ever had to do with since its start: ten years of a hundred new ones a day, three times.
pub const ACCOUNTS_SEEN_MAX: usize = 1 << 20;

// --- control --------------------------------------------------------------------------------------

/// Connections to the admin port at once; a scraper, a prober, a person, each with a spare.
pub const ADMIN_CONNECTIONS: usize = 32;
/// Head of a request to the admin port.
pub const ADMIN_HEAD_BYTES: usize = 8 * 1024;

const _: () = assert!(TO_FLUSH_SLOTS >= DELTAS_PER_CORE && FROM_FLUSH_SLOTS >= DELTAS_PER_CORE);
