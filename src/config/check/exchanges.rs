//! Who sends requests, and how notices of what they bought come and go: what a configuration says of both, and what cannot be.
//! Owns: nothing. Called by: the check of a file. Never: stops at the first mistake.
use super::{Checker, Got, Table};
use crate::config::{
    mistake::quoted,
    resolved::{Exchange, Markup, Position, RateTable, Settle, Wrapping},
    schema,
};

impl Checker<'_, '_> {
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
