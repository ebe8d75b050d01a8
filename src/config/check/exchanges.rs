//! Who sends requests, and how notices of what they bought come and go: what a configuration says of both, and what cannot be.
//! Owns: nothing. Called by: the check of a file. Never: stops at the first mistake.
use super::{Checker, Got, Table};
use crate::{
    config::{
        mistake::quoted,
        resolved::{Durability, Exchange, Markup, NoticeRules, Position, RateTable, Settle, Wrapping},
        schema,
    },
    limits,
};

impl Checker<'_, '_> {
    pub(super) fn notices(&mut self, table: Table<'_, '_>, durability: Durability, head_bytes: usize) -> NoticeRules {
        let peers = self.get(table, &schema::NOTICES_PEERS);
        if !peers.value.is_empty() && self.find(table, &schema::NOTICES_KEYS).is_none() {
            let found = "peers that cannot know this server's keys".to_owned();
            let allowed = "peers where notices.keys names a file that all have".to_owned();
            self.rule(peers.at, "notices.peers".to_owned(), found, allowed, None);
        }
        let url = self.find(table, &schema::NOTICES_URL);
        let notices_at = url.as_ref().map(|u| u.at);
        let notices = NoticeRules {
            url: url.map(|u| u.value),
            keys: self.find(table, &schema::NOTICES_KEYS).map(|k| k.value),
            life_s: self.get(table, &schema::NOTICES_LIFE_S).ms(),
            auctions: self.get(table, &schema::NOTICES_AUCTIONS).size(),
            timeout_ms: self.get(table, &schema::NOTICES_TIMEOUT_MS).value,
            connections: self.get(table, &schema::NOTICES_CONNECTIONS).size(),
            retry_s: self.get(table, &schema::NOTICES_RETRY_S).ms(),
            checkpoint_ms: self.get(table, &schema::NOTICES_CHECKPOINT_MS).value,
            losses: self.get(table, &schema::NOTICES_LOSSES).value,
            device_headers: self.get(table, &schema::NOTICES_DEVICE).value,
            markup_ms: self.get(table, &schema::NOTICES_MARKUP_MS).value,
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

    pub(super) fn exchanges(
        &mut self,
        tables: &[Table<'_, '_>],
        rates: &Got<RateTable>,
        notices: bool,
    ) -> Vec<Exchange> {
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        let mut out = Vec::with_capacity(tables.len());
        for &table in tables {
            let name = self.get(table, &schema::EXCHANGE_NAME);
            self.once("exchange.name", &name, &mut names);
            let path = self.get(table, &schema::PATH);
            self.once("exchange.path", &path, &mut paths);
            let currencies = self.get(table, &schema::EXCHANGE_CURRENCIES);
            let currencies = match currencies.written {
                true => self.rated("exchange.currencies", &currencies.value, rates),
                false => vec![rates.value.accounting],
            };
            let wrapping = self.find(table, &schema::EXCHANGE_NOTICES);
            if let Some(wrapping) = wrapping.as_ref().filter(|w| w.value != Wrapping::Pass && !notices) {
                let allowed = "\"pass\" where notices.url is not set".to_owned();
                let found = "notices of ours without notices.url".to_owned();
                self.rule(wrapping.at, "exchange.notices".to_owned(), found, allowed, Some(quoted("pass")));
            }
            let default = if notices { Wrapping::Wrap } else { Wrapping::Pass };
            let position = self.get(table, &schema::POSITION).value;
            let markup = self.get(table, &schema::MARKUP);
            if markup.value == Markup::Fetch && (!notices || position == Position::Intermediate) {
                let found = match notices {
                    true => "markup that is fetched before it is known who wins",
                    false => "markup to be fetched without notices.url, which opens connections for it",
                };
                let allowed =
                    "\"pass\" where notices.url is not set or exchange.position is \"intermediate\"".to_owned();
                self.rule(markup.at, "exchange.markup".to_owned(), found.to_owned(), allowed, Some(quoted("pass")));
            }
            let settle = self.get(table, &schema::SETTLE);
            let mut notices = wrapping.map_or(default, |w| w.value);
            if settle.value == Settle::Notice {
                if notices == Wrapping::Pass {
                    let found = "billing notices that settle, of which none comes here".to_owned();
                    let allowed = "\"auction\" where notices.url is not set or exchange.notices is \"pass\"".to_owned();
                    self.rule(settle.at, "exchange.settle".to_owned(), found, allowed, Some(quoted("auction")));
                }
                // A bid whose notice cannot be ours could never be charged.
                notices = Wrapping::WrapOrRefuse;
            }
            out.push(Exchange {
                name: name.value,
                path: path.value,
                position,
                no_bid: self.get(table, &schema::NO_BID).value,
                currencies,
                expected_exp_s: self.get(table, &schema::EXPECTED_EXP_S).ms(),
                require_crid: self.get(table, &schema::REQUIRE_CRID).value,
                require_adomain: self.get(table, &schema::REQUIRE_ADOMAIN).value,
                notices,
                markup: markup.value,
                settle: settle.value,
            });
        }
        out
    }
}
