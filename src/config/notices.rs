//! `[notices]`: what exchanges and browsers tell us later, and what we tell DSPs.
//! Owns: its keys and what they mean together. Called by: `check`, once.
use super::{
    address::{Base, Peer},
    check::{Checker, Table},
    kind::{Choice, Dir, Flag, List, Whole},
    mistake::quoted,
    resolved::{Durability, Losses, NoticeRules},
    schema::{
        Fallback::{Number, Toml, Unset},
        HOUR_MS, Key, Section, Shape, count, key, ms,
    },
};
use crate::limits;

const URL: Key<Base> = key(
    "url",
    Unset("\"https://bid.exchange.example\""),
    Base,
    "What our notice URLs begin with, /notice/ follows: the listener as exchanges and browsers reach it; a path in it is for a \
     proxy to take off. Unset: DSPs' own URLs go out.",
);
const KEYS: Key<Dir> = key(
    "keys",
    Unset("\"/etc/outcry/notice.keys\""),
    Dir,
    "The file with the keys that sign them, a number and 32 to 128 hexadecimal digits on each line; the first line signs, all \
     are believed. The same on all servers behind one address. Unset: state_dir/notice.keys, made at the first start.",
);
const LIFE_S: Key<Whole> = key(
    "life_s",
    Number(3_600),
    Whole { min: 10, max: 7 * 86_400, unit: "seconds" },
    "A notice that comes so long after its auction is answered, recorded, and not acted on.",
);
const AUCTIONS: Key<Whole> = key(
    "auctions",
    Number(limits::NOTICES_AUCTIONS_DEFAULT as u64),
    count(limits::NOTICES_AUCTIONS_MIN, limits::NOTICES_AUCTIONS_MAX),
    "Requests, with and without bids, whose notices can be told apart within life_s, 1.6 bytes each: requests a second times \
     life_s. Beyond it notices wait, answered with 503.",
);
const TIMEOUT_MS: Key<Whole> =
    key("timeout_ms", Number(2_000), ms(10, 60_000), "A DSP's answer to a notice is waited for so long.");
const CONNECTIONS: Key<Whole> = key(
    "connections",
    Number(8),
    count(1, limits::NOTICE_CONNECTIONS_MAX),
    "Connections of one bidder core to one host that takes notices, at most.",
);
const RETRY_S: Key<Whole> = key(
    "retry_s",
    Number(600),
    Whole { min: 1, max: 86_400, unit: "seconds" },
    "A DSP that does not take a notice is tried again, ever more rarely, for so long; then the notice is a dead letter.",
);
const CHECKPOINT_MS: Key<Whole> = key(
    "checkpoint_ms",
    Number(10_000),
    ms(10, HOUR_MS),
    "What is known of notices is written to state_dir/notices this often; a start reads what was recorded since.",
);
const LOSSES: Key<Choice<Losses>> = key(
    "losses",
    Toml("\"reason\""),
    Choice(&[("off", Losses::Off), ("reason", Losses::Reason), ("min_to_win", Losses::MinToWin)]),
    "What a DSP is told at the lurl of a bid that lost here: AUCTION_LOSS, or AUCTION_MIN_TO_WIN too. Once, as far as there is \
     room; in a first-price auction what would have tied is what the winner pays.",
);

const DEVICE: Key<Flag> = key(
    "device_headers",
    Toml("true"),
    Flag,
    "X-Forwarded-For, X-Device-IP and X-Device-User-Agent of a notice go on to its DSP, if the process that took it calls: they are \
     kept in memory and on no record.",
);
const MARKUP_MS: Key<Whole> = key(
    "markup_ms",
    Number(30),
    ms(1, 1_000),
    "Markup behind a nurl is waited for so long, where an exchange has it fetched: all DSPs of its auctions get that much less time.",
);
const PEERS: Key<List<Peer>> = key(
    "peers",
    Toml("[]"),
    List { item: Peer, count: 0..=limits::NOTICE_PEERS_MAX },
    "Other servers behind the same address, NODE=HOST:PORT: a notice of an auction that one of them answered is acknowledged here \
     and handed to it, http, tried again for retry_s. They have the same notices.keys.",
);

pub(super) const NOTICES: Section = Section {
    name: "notices",
    path: "notices",
    shape: Shape::Once,
    meaning: "How exchanges and browsers tell us what was won and billed, and how we tell DSPs.",
    keys: &[
        &URL,
        &KEYS,
        &LIFE_S,
        &AUCTIONS,
        &TIMEOUT_MS,
        &CONNECTIONS,
        &RETRY_S,
        &CHECKPOINT_MS,
        &LOSSES,
        &MARKUP_MS,
        &DEVICE,
        &PEERS,
    ],
    sections: &[],
};

impl Checker<'_, '_> {
    pub(super) fn notices(&mut self, table: Table<'_, '_>, durability: Durability, head_bytes: usize) -> NoticeRules {
        let peers = self.get(table, &PEERS);
        if !peers.value.is_empty() && self.find(table, &KEYS).is_none() {
            let found = "peers that cannot know this server's keys".to_owned();
            let allowed = "peers where notices.keys names a file that all have".to_owned();
            self.rule(peers.at, "notices.peers".to_owned(), found, allowed, None);
        }
        let url = self.find(table, &URL);
        let notices_at = url.as_ref().map(|u| u.at);
        let notices = NoticeRules {
            url: url.map(|u| u.value),
            keys: self.find(table, &KEYS).map(|k| k.value),
            life_s: self.get(table, &LIFE_S).ms(),
            auctions: self.get(table, &AUCTIONS).size(),
            timeout_ms: self.get(table, &TIMEOUT_MS).value,
            connections: self.get(table, &CONNECTIONS).size(),
            retry_s: self.get(table, &RETRY_S).ms(),
            checkpoint_ms: self.get(table, &CHECKPOINT_MS).value,
            losses: self.get(table, &LOSSES).value,
            device_headers: self.get(table, &DEVICE).value,
            markup_ms: self.get(table, &MARKUP_MS).value,
            peers: peers.value.into_iter().map(|peer| peer.value).collect(),
        };
        if let Some(at) = notices_at.filter(|_| durability == Durability::None) {
            let allowed =
                "process or power where notices.url is set: a notice is acknowledged once it is recorded".to_owned();
            self.rule(at, "record.durability".to_owned(), quoted("none"), allowed, Some(quoted("process")));
        }
        if let Some(at) = notices_at.filter(|_| head_bytes < limits::NOTICE_HEAD_BYTES) {
            let allowed = format!("at least {}, as long as our own notice URLs may be", limits::NOTICE_HEAD_BYTES);
            let found = format!("{head_bytes} beside notices.url");
            let nearest = Some(limits::NOTICE_HEAD_BYTES.to_string());
            self.rule(at, "http.head_bytes".to_owned(), found, allowed, nearest);
        }
        notices
    }
}
