//! What a world is made of, and what happens in it.
//! Owns: nothing. Called by: the world, and whoever makes a run smaller. Never: draws anything while the world runs.
use outcry::{
    budget::{granter, planted, server},
    notice::holds,
};
use outcry_cores::lab::rng::Rng;

/// One second, nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// What can go wrong, or is only unusual.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Trouble {
    AskLost,
    AskRepeated,
    ReplyLost,
    ReplyRepeated,
    Delayed,
    GranterForgot,
    GranterSilent,
    GranterAway,
    GranterPower,
    SettlementLost,
    Kill,
    PowerCut,
    SettledLate,
    TwoInARow,
    Zombie,
    Drained,
    Stalled,
    WallJump,
    Lowered,
    ToppedUp,
    Paused,
    Ended,
    Recut,
    Undelivered,
    LateNews,
    Pause,
}

impl Trouble {
    pub(crate) const ALL: [Trouble; 26] = [
        Trouble::AskLost,
        Trouble::AskRepeated,
        Trouble::ReplyLost,
        Trouble::ReplyRepeated,
        Trouble::Delayed,
        Trouble::GranterForgot,
        Trouble::GranterSilent,
        Trouble::GranterAway,
        Trouble::GranterPower,
        Trouble::SettlementLost,
        Trouble::Kill,
        Trouble::PowerCut,
        Trouble::SettledLate,
        Trouble::TwoInARow,
        Trouble::Zombie,
        Trouble::Drained,
        Trouble::Stalled,
        Trouble::WallJump,
        Trouble::Lowered,
        Trouble::ToppedUp,
        Trouble::Paused,
        Trouble::Ended,
        Trouble::Recut,
        Trouble::Undelivered,
        Trouble::LateNews,
        Trouble::Pause,
    ];

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Trouble::AskLost => "ask lost",
            Trouble::AskRepeated => "ask repeated",
            Trouble::ReplyLost => "reply lost",
            Trouble::ReplyRepeated => "reply repeated",
            Trouble::Delayed => "message delayed, overtaken",
            Trouble::GranterForgot => "granter dies, uncommitted changes lost",
            Trouble::GranterSilent => "granter dies, committed, reply lost",
            Trouble::GranterAway => "granter away for up to a minute",
            Trouble::GranterPower => "granter's machine starts anew, clock at zero",
            Trouble::SettlementLost => "granter dies while it settles",
            Trouble::Kill => "server killed at some step",
            Trouble::PowerCut => "server's power cut, end of its record lost",
            Trouble::SettledLate => "settled after the next start has asked",
            Trouble::TwoInARow => "server dies again before it was settled",
            Trouble::Zombie => "the old start goes on beside the new one",
            Trouble::Drained => "server ended in order and started again",
            Trouble::Stalled => "server stands still, up to 40 s",
            Trouble::WallJump => "granter's wall clock jumps by minutes",
            Trouble::Lowered => "budget lowered",
            Trouble::ToppedUp => "budget topped up",
            Trouble::Paused => "account paused or resumed",
            Trouble::Ended => "account ended",
            Trouble::Recut => "zone or hourly limit changed",
            Trouble::Undelivered => "answer not delivered after its charge",
            Trouble::LateNews => "nothing heard of a delivery for long",
            Trouble::Pause => "no traffic for hours",
        }
    }
}

/// A mistake that is made on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planted {
    Granter(granter::Fault),
    Server(server::Fault),
    Core(planted::Fault),
    Holds(holds::Fault),
    /// A record that lacks its end counts as complete.
    TornTailIgnored,
}

impl Planted {
    pub(crate) const ALL: [Planted; 23] = [
        Planted::Granter(granter::Fault::ExpiredUnspent),
        Planted::Granter(granter::Fault::NoFence),
        Planted::Granter(granter::Fault::GrantBeforeDurable),
        Planted::Granter(granter::Fault::RetryGrantedTwice),
        Planted::Granter(granter::Fault::PeriodMixedUp),
        Planted::Granter(granter::Fault::AdvertiserNotDebited),
        Planted::Granter(granter::Fault::QuarantineReleasedEarly),
        Planted::Granter(granter::Fault::HoldForgotten),
        Planted::Server(server::Fault::ExpiredUnspent),
        Planted::Server(server::Fault::NoFence),
        Planted::Server(server::Fault::UsedBeforeGranted),
        Planted::Server(server::Fault::RepliedTwice),
        Planted::Server(server::Fault::PeriodMixedUp),
        Planted::Server(server::Fault::DeliveryIgnored),
        Planted::Server(server::Fault::HoldForgotten),
        Planted::Server(server::Fault::LapseReused),
        Planted::Core(planted::Fault::DeliveryIgnored),
        Planted::Core(planted::Fault::ExpiredUsed),
        Planted::Core(planted::Fault::PeriodMixed),
        Planted::Holds(holds::Fault::SettledLapses),
        Planted::Holds(holds::Fault::LapsesEarly),
        Planted::Holds(holds::Fault::LowerIgnored),
        Planted::TornTailIgnored,
    ];
}

/// A world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) servers: u32,
    pub(crate) cores: usize,
    pub(crate) advertisers: u32,
    pub(crate) campaigns: u32,
    /// A day's budget in bids.
    pub(crate) bids: u64,
    /// An advertiser has this part of what its campaigns have together, per mille.
    pub(crate) advertiser_part: u64,
    /// A bid, nano-units.
    pub(crate) price: u64,
    /// Now and then one of so many times the price.
    pub(crate) largest: u64,
    /// It is to show what a day leaves unspent.
    pub(crate) market: bool,
    /// Steps with traffic.
    pub(crate) steps: u32,
    /// Of a step, milliseconds, at most.
    pub(crate) step_ms: u64,
    /// Bids per core and step, per mille.
    pub(crate) traffic: u64,
    /// Slots of the rings to cores.
    pub(crate) ring: usize,
    /// Auctions whose delivery a core remembers.
    pub(crate) tickets: usize,
    /// Each kind of trouble comes so often, per 100,000 steps or messages.
    pub(crate) trouble: u32,
    /// Which kinds may come, by bit.
    pub(crate) kinds: u32,
    /// So many auctions in a thousand are charged when their notices come, which hold so long.
    pub(crate) awaited: u64,
    pub(crate) life_s: u32,
    /// A server's frames are durable before the answer leaves.
    pub(crate) durable: bool,
    /// Minutes before a change of day at which it begins.
    pub(crate) before: u64,
    pub(crate) zone: usize,
    pub(crate) planted: Option<Planted>,
}

impl Plan {
    /// The world of a seed. Small ones are drawn often: faults show in them soonest.
    pub(crate) fn of(seed: u64) -> Plan {
        let mut r = Rng::new(seed);
        if seed % 10 == 9 {
            return Plan::market(seed, &mut r);
        }
        let size = r.below(100);
        let (servers, cores, campaigns) = match size {
            0..60 => (r.between(1, 3), r.between(1, 3), r.between(1, 4)),
            60..92 => (r.between(2, 5), r.between(1, 4), r.between(4, 40)),
            92..99 => (r.between(4, 12), r.between(2, 8), r.between(40, 200)),
            _ => (12, 8, r.between(1_000, 3_000)),
        };
        let bids = *r.pick(&[4, 10, 30, 100, 400, 2_000, 2_000, 5_000]).unwrap_or(&30);
        let large = campaigns > 400;
        Plan {
            seed,
            servers: servers as u32,
            cores: cores as usize,
            advertisers: r.between(1, campaigns.div_ceil(3).min(100)) as u32,
            campaigns: campaigns as u32,
            bids: if large { bids.min(100) } else { bids },
            advertiser_part: *r.pick(&[300, 700, 1_000, 2_000]).unwrap_or(&1_000),
            price: *r.pick(&[1, 7, 1_000, 20_000_000]).unwrap_or(&7),
            largest: bids.min(40),
            market: false,
            steps: if large { 100 } else { r.between(100, 600) as u32 },
            step_ms: *r.pick(&[20, 100, 300, 1_000, 3_000]).unwrap_or(&100),
            traffic: *r.pick(&[300, 1_000, 3_000, 8_000]).unwrap_or(&1_000),
            ring: *r.pick(&[1, 2, 8, 64]).unwrap_or(&8),
            tickets: *r.pick(&[2, 8, 64, 512]).unwrap_or(&64),
            trouble: *r.pick(&[0, 200, 800, 800, 3_000]).unwrap_or(&800),
            kinds: r.draw() as u32 | r.draw() as u32,
            durable: r.chance(300),
            before: *r.pick(&[1, 2, 5, 20]).unwrap_or(&2),
            zone: r.below(ZONES.len() as u64) as usize,
            awaited: if large { 0 } else { *r.pick(&[0, 0, 300, 1_000]).unwrap_or(&0) },
            life_s: *r.pick(&[5, 60, 300]).unwrap_or(&60),
            planted: None,
        }
    }

    /// A world in which more is wanted than there is and something goes wrong now and then: what it leaves unspent is what
    /// disasters strand. Half an hour stands for a day, so a lease is a part of it fifty times as large.
    fn market(seed: u64, r: &mut Rng) -> Plan {
        let (servers, cores, campaigns) = (r.between(1, 4), r.between(1, 3), r.between(1, 4));
        let (bids, steps) = (*r.pick(&[500, 2_000, 5_000]).unwrap_or(&2_000), 3_000);
        Plan {
            seed,
            servers: servers as u32,
            cores: cores as usize,
            advertisers: 1,
            campaigns: campaigns as u32,
            bids,
            advertiser_part: *r.pick(&[1_000, 3_000]).unwrap_or(&1_000),
            price: 20_000_000,
            largest: 3,
            market: true,
            steps,
            step_ms: 1_000,
            traffic: 2_500 * bids * campaigns / (u64::from(steps) * servers * cores),
            ring: 64,
            tickets: 512,
            trouble: *r.pick(&[0, 10, 30, 100]).unwrap_or(&0),
            kinds: !(1 << Trouble::Pause as u32),
            durable: r.chance(300),
            before: 24,
            zone: r.below(ZONES.len() as u64) as usize,
            awaited: 0,
            life_s: 60,
            planted: None,
        }
    }

    /// Where charges wait for notices no record is torn, as a notice that was acknowledged may be lost with it, and no start goes
    /// on beside the next: the two would write one journal.
    pub(crate) fn may(&self, trouble: Trouble) -> bool {
        let held = self.awaited > 0 && matches!(trouble, Trouble::PowerCut | Trouble::Zombie);
        !held && self.kinds & (1 << trouble as u32) != 0
    }
}

/// A zone, and a minute (UTC since 1970) shortly before one of its days begins: with clocks set forward and back on that day
/// or the one before.
pub(crate) const ZONES: [(&str, u32); 7] = [
    ("UTC", 20_778 * 1440),
    // Summer time ends in Berlin on 25 October 2026, of 25 hours; begins on 29 March, of 23.
    ("Europe/Berlin", 20_750 * 1440 + 22 * 60),
    ("Europe/Berlin", 20_541 * 1440 - 60),
    ("America/New_York", 20_758 * 1440 + 4 * 60),
    ("Asia/Kathmandu", 20_778 * 1440 - 345),
    ("Australia/Lord_Howe", 20_547 * 1440 + 13 * 60),
    ("Pacific/Auckland", 20_778 * 1440 + 11 * 60),
];
