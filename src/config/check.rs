//! From what was written to what may run: [`load`] reads every key by its declaration in `schema`, then the
//! rules between keys, and tells every mistake at once.
//! Owns: nothing. Called by: `outcry serve`, `outcry check`, reloads. Never: stops at the first mistake, reads a
//! file, invents a second mistake out of a first.
mod exchanges;
mod reaching;

use super::{
    kind::{Kind, Placed, Wrong},
    mistake::{Mistake, quoted},
    raw::{Found, Mended, Places, Raw, describe, mend},
    resolved::{AuctionRules, BudgetRules, Config, Cpus, Http, RateTable, RawRules, RecordRules, SchainNode},
    schema::{self, Fallback, Key, Section, Shape},
    suggest,
};
use crate::{
    journal::PAGE,
    record::digest::digest,
    units::{Currency, Rate},
};
use std::net::SocketAddr;
use toml::de::{DeTable, DeValue};

/// Reads a configuration. `id` counts up with every accepted reload.
///
/// # Errors
/// Every mistake of the file, in its order. Where it is not even TOML, keys that seem to be missing and rules
/// between keys are left out: they may stand in the part that could not be read.
pub fn load(text: &str, id: u64) -> Result<Config, Vec<Mistake>> {
    let hash = digest(text.as_bytes());
    checked(text, &schema::FILE, |checker, root| Config { hash, ..checker.file(root, id) })
}

/// Reads a file of which `file` is the top, and tells all that is wrong with it.
pub(super) fn checked<T>(
    text: &str,
    file: &'static Section,
    read: impl FnOnce(&mut Checker<'_, '_>, &DeTable<'_>) -> T,
) -> Result<T, Vec<Mistake>> {
    let Mended { text, mut mistakes, lines_sound } = mend(text);
    let raw = Raw::parse(&text);
    let mut checker = Checker { file, places: &raw.places, local: Vec::new(), whole: Vec::new() };
    let value = read(&mut checker, &raw.root);
    let Checker { local, whole, .. } = checker;
    let broken: Vec<usize> = mistakes.iter().map(|m| m.line).collect();
    if broken.is_empty() {
        mistakes.extend(whole);
    }
    mistakes.extend(local.into_iter().filter(|m| m.line <= lines_sound && !broken.contains(&m.line)));
    mistakes.sort();
    mistakes.dedup();
    if mistakes.is_empty() { Ok(value) } else { Err(mistakes) }
}

/// A section as it stands in the file, or is absent from it.
#[derive(Clone, Copy)]
pub(super) struct Table<'r, 't> {
    pub(super) section: &'static Section,
    pub(super) entries: Option<&'r DeTable<'t>>,
    /// Where it begins.
    pub(super) at: usize,
}

/// A key's value as far as it could be had.
pub(super) struct Got<T> {
    pub(super) value: T,
    /// Where it stands; the section's place when it is a default.
    pub(super) at: usize,
    /// Somebody wrote it.
    pub(super) written: bool,
    /// It is no stand-in: rules between keys may look at it.
    pub(super) sound: bool,
}

impl Got<u64> {
    /// A default that follows another key: never above it.
    pub(super) fn at_most(mut self, other: &Got<u64>) -> Got<u64> {
        if !self.written {
            self.value = self.value.min(other.value);
        }
        self
    }

    pub(super) fn ms(&self) -> u32 {
        u32::try_from(self.value).unwrap_or(u32::MAX)
    }

    pub(super) fn size(&self) -> usize {
        usize::try_from(self.value).unwrap_or(usize::MAX)
    }
}

pub(super) struct Checker<'p, 't> {
    /// What the file is.
    file: &'static Section,
    pub(super) places: &'p Places<'t>,
    /// Mistakes of one place, true whatever the rest of the file says.
    local: Vec<Mistake>,
    /// Mistakes that need the whole file to be one: what is missing, what contradicts.
    whole: Vec<Mistake>,
}

impl Checker<'_, '_> {
    fn mistake(&self, at: usize, key: String, found: String, allowed: String, nearest: Option<String>) -> Mistake {
        let (line, column) = self.places.of(at);
        Mistake { line, column, key, found, allowed, nearest }
    }

    /// A rule between keys is broken.
    pub(super) fn rule(&mut self, at: usize, key: String, found: String, allowed: String, nearest: Option<String>) {
        let mistake = self.mistake(at, key, found, allowed, nearest);
        self.whole.push(mistake);
    }

    // --- the file as sections and keys -----------------------------------------------------------

    /// Everything in a table that is no key of its section.
    pub(super) fn unknown(&mut self, table: Table<'_, '_>) {
        let section = table.section;
        let keys = || section.keys.iter().map(|k| k.name());
        let sections = || section.sections.iter().map(|s| s.name);
        for (name, value) in table.entries.into_iter().flatten() {
            let word = name.get_ref().as_ref();
            if keys().chain(sections()).any(|k| k == word) {
                continue;
            }
            // A right key in the wrong section, TOML's commonest slip, before one that only looks like it.
            let elsewhere = all_sections(self.file)
                .find(|s| s.keys.iter().any(|k| k.name() == word))
                .map(|s| if s.path.is_empty() { format!("{word} above all sections") } else { s.key(word) });
            let nearest = elsewhere.or_else(|| {
                let near = suggest::nearest(word, keys().chain(sections()))?;
                Some(section.sections.iter().find(|s| s.name == near).map_or(near.to_owned(), |s| s.header()))
            });
            // A rate beside its table.
            let rate = Currency::parse(word.as_bytes()).filter(|_| section.path == "rates");
            let nearest = nearest.or(rate.map(|c| format!("[rates.table] {c} = {}", describe(value.get_ref()))));
            let what = if matches!(value.get_ref(), DeValue::Table(_)) { "section" } else { "key" };
            let allowed: Vec<&str> = keys().chain(sections()).collect();
            let (key, found) = (section.key(&super::mistake::shown(word)), format!("an unknown {what}"));
            let mistake = self.mistake(name.span().start, key, found, allowed.join(", "), nearest);
            self.local.push(mistake);
        }
    }

    /// The sections of one name below `parent`; a single absent one for `Shape::Once`.
    pub(super) fn sections<'r, 't>(&mut self, parent: Table<'r, 't>, name: &str) -> Vec<Table<'r, 't>> {
        let Some(section) = parent.section.sections.iter().find(|s| s.name == name) else { return Vec::new() };
        let absent = Table { section, entries: None, at: parent.at };
        let found = parent.entries.and_then(|e| e.get_key_value(name));
        let mut out = Vec::new();
        match (found.map(|(_, v)| v.get_ref()), section.shape) {
            (None, Shape::Once) => out.push(absent),
            (None, _) => {}
            (Some(DeValue::Table(entries)), Shape::Once | Shape::Optional) => {
                let at = found.map_or(0, |(k, v)| k.span().start.min(v.span().start));
                out.push(Table { section, entries: Some(entries), at });
            }
            (Some(DeValue::Array(tables)), Shape::Many(max)) => {
                for item in tables.iter() {
                    match item.get_ref() {
                        DeValue::Table(entries) => {
                            out.push(Table { section, entries: Some(entries), at: item.span().start });
                        }
                        _ => self.misshapen(section, item),
                    }
                }
                if let Some(one_more) = out.get(max) {
                    let found = format!("{} of them", out.len());
                    let (at, key) = (one_more.at, section.path.to_owned());
                    self.rule(at, key, found, format!("at most {max}"), None);
                    out.truncate(max);
                }
            }
            (Some(_), shape) => {
                if let Some((_, value)) = found {
                    self.misshapen(section, value);
                }
                // Its keys cannot be read; their defaults stand in.
                if shape == Shape::Once {
                    out.push(absent);
                }
            }
        }
        for table in &out {
            self.unknown(*table);
        }
        out
    }

    fn misshapen(&mut self, section: &Section, found: &Found<'_>) {
        if found.span().is_empty() {
            return; // made up by the parser, as in `get`
        }
        let (at, what) = (found.span().start, describe(found.get_ref()));
        let hint = Some(section.header());
        let allowed = format!("the section {}", section.header());
        let mistake = self.mistake(at, section.path.to_owned(), what, allowed, hint);
        self.local.push(mistake);
    }

    /// One key's value; its default when it is absent; a stand-in, and a mistake, when it is wrong.
    pub(super) fn get<K: Kind>(&mut self, table: Table<'_, '_>, key: &Key<K>) -> Got<K::Value> {
        let stand_in = |at, written| Got { value: key.kind.stand_in(), at, written, sound: false };
        if let Some(found) = table.entries.and_then(|e| e.get(key.name)) {
            let (at, mut wrong) = (found.span().start, Vec::new());
            let value = key.kind.read(found, &mut wrong);
            // Where it could not read a value the parser puts one that stands nowhere, at the first byte, and tells the break
            // itself. What really stands there is the table of a dotted key, which is as long as it is.
            wrong.retain(|w| w.at > 0 || !found.span().is_empty() && found.span().start == w.at);
            for Wrong { at, entry, found, allowed, nearest } in wrong {
                let name = table.section.key(key.name);
                let name = entry.map_or(name.clone(), |entry| format!("{name}.{entry}"));
                let mistake = self.mistake(at, name, found, allowed, nearest);
                self.local.push(mistake);
            }
            return match value {
                Some(value) => Got { value, at, written: true, sound: true },
                None => stand_in(at, true),
            };
        }
        // In a section that is not there at all, what is required has its default too: the default exchange.
        if let (Fallback::Required(example), Some(_)) = (key.fallback, table.entries) {
            let allowed = format!("{}, for instance {} = {example}", key.kind.allowed(), key.name);
            self.rule(table.at, table.section.key(key.name), "nothing".to_owned(), allowed, None);
            return stand_in(table.at, false);
        }
        let default = key.fallback.toml();
        let parsed = default.as_deref().and_then(|d| DeValue::parse(d).ok());
        match parsed.and_then(|p| key.kind.read(&p, &mut Vec::new())) {
            Some(value) => Got { value, at: table.at, written: false, sound: true },
            None => stand_in(table.at, false),
        }
    }

    /// One key's value; None when it is absent, or wrong, which then is a mistake.
    pub(super) fn find<K: Kind>(&mut self, table: Table<'_, '_>, key: &Key<K>) -> Option<Got<K::Value>> {
        Some(self.get(table, key)).filter(|got| got.written && got.sound)
    }

    // --- what the keys mean together -------------------------------------------------------------

    fn file(&mut self, root: &DeTable<'_>, id: u64) -> Config {
        let top = Table { section: &schema::FILE, entries: Some(root), at: 0 };
        self.unknown(top);
        let one = |checker: &mut Self, name| {
            let absent = Table { section: &schema::FILE, entries: None, at: 0 };
            checker.sections(top, name).first().copied().unwrap_or(absent)
        };
        let node = self.find(top, &schema::NODE).map(|n| n.ms());
        let region = self.get(top, &schema::REGION).value;
        let state_dir = self.get(top, &schema::STATE_DIR).value;
        let (listen, admin) = (self.get(top, &schema::LISTEN), self.get(top, &schema::ADMIN));
        self.apart(&listen, &admin);
        let io_driver = self.get(top, &schema::IO_DRIVER).value;
        let stop_ms = self.get(top, &schema::STOP_MS).value;
        let cpus = one(self, "cpus");
        let cpus = self.cpus(cpus);
        let http = one(self, "http");
        let http = self.http(http);
        let auction = one(self, "auction");
        let (auction, dsp_ms, dsp_min_ms) = self.auction(auction);
        let record = one(self, "record");
        let box_dir = self.find(record, &schema::BOX_DIR).map(|got| got.value);
        let record = RecordRules {
            bid_bytes: self.get(record, &schema::BID_BYTES).size(),
            durability: self.get(record, &schema::DURABILITY).value,
            commit_ms: self.get(record, &schema::COMMIT_MS).value,
            box_bytes: self.get(record, &schema::BOX_BYTES).value,
            // Whole pages: the journal writes past the page cache.
            segment_bytes: self.get(record, &schema::SEGMENT_BYTES).value / PAGE as u64 * PAGE as u64,
            keep_days: self.get(record, &schema::KEEP_DAYS).value,
            keep_bytes: self.get(record, &schema::KEEP_BYTES).value,
            wait_for_tiers: self.get(record, &schema::WAIT_FOR_TIERS).value,
        };
        let raw = one(self, "raw");
        let raw = RawRules {
            one_in: self.get(raw, &schema::RAW_ONE_IN).value,
            keep_days: self.get(raw, &schema::RAW_KEEP_DAYS).value,
            keep_bytes: self.get(raw, &schema::RAW_KEEP_BYTES).value,
            keeps_personal_data: self.get(raw, &schema::RAW_KEEPS_PERSONAL_DATA).value,
        };
        let budget = one(self, "budget");
        let budget = BudgetRules {
            file: self.find(budget, &schema::BUDGET_FILE).map(|f| f.value),
            accounts: self.get(budget, &schema::BUDGET_ACCOUNTS).size(),
        };
        let notices = one(self, "notices");
        let notices = self.notices(notices, record.durability, http.head_bytes);
        let dns = one(self, "dns");
        let dns = self.dns(dns);
        let kafka = self.sections(top, "kafka").first().copied();
        let kafka = kafka.map(|table| self.kafka(table, record.durability != super::resolved::Durability::None));
        let rates = one(self, "rates");
        let rates = self.rates(rates);
        let mut exchanges = self.sections(top, "exchange");
        if exchanges.is_empty() {
            exchanges.push(Table { section: &schema::EXCHANGE, entries: None, at: 0 });
        }
        let exchanges = self.exchanges(&exchanges, &rates, notices.url.is_some());
        let dsps = self.sections(top, "dsp");
        let dsps = self.dsps(&dsps, &rates, &dsp_ms, &dsp_min_ms);
        let house = self.sections(top, "house");
        let house = self.house(&house);
        Config {
            id,
            hash: 0,
            region,
            node,
            state_dir,
            box_dir,
            listen: listen.value,
            admin: admin.value,
            cpus,
            io_driver,
            stop_ms,
            http,
            auction,
            record,
            raw,
            budget,
            notices,
            dns,
            kafka,
            rates: rates.value,
            exchanges,
            dsps,
            house,
        }
    }

    /// Two listeners cannot share a port, unless each has an address of its own.
    fn apart(&mut self, listen: &Got<SocketAddr>, admin: &Got<SocketAddr>) {
        let (l, a) = (listen.value, admin.value);
        let any = l.ip().is_unspecified() || a.ip().is_unspecified();
        if !listen.sound || !admin.sound || l.port() != a.port() || l.port() == 0 || !(any || l.ip() == a.ip()) {
            return;
        }
        let (key, got) = if admin.written { ("admin", admin) } else { ("listen", listen) };
        let other = SocketAddr::new(got.value.ip(), if l.port() == 9090 { 9091 } else { 9090 });
        let found = format!("{} beside {}", quoted(&a.to_string()), quoted(&l.to_string()));
        let allowed = "a port of its own for admin and for listen".to_owned();
        self.rule(got.at, key.to_owned(), found, allowed, Some(quoted(&other.to_string())));
    }

    fn cpus(&mut self, table: Table<'_, '_>) -> Cpus {
        let numbers = |list: Option<Got<Vec<Placed<u64>>>>| -> Vec<usize> {
            list.into_iter().flat_map(|l| l.value).map(|n| n.value as usize).collect()
        };
        let bidders = numbers(self.find(table, &schema::BIDDERS));
        let count = self.find(table, &schema::BIDDER_COUNT);
        if let Some(count) = count.as_ref().filter(|c| !bidders.is_empty() && c.size() != bidders.len()) {
            let found = format!("{} beside {} CPUs in bidders", count.value, bidders.len());
            let nearest = Some(bidders.len().to_string());
            self.rule(count.at, "cpus.bidder_count".into(), found, "bidders or bidder_count, not both".into(), nearest);
        }
        Cpus {
            bidders,
            bidder_count: count.map(|c| c.size()),
            flush: self.find(table, &schema::FLUSH).map(|f| f.size()),
            control: numbers(self.find(table, &schema::CONTROL)),
        }
    }

    fn http(&mut self, table: Table<'_, '_>) -> Http {
        Http {
            head_bytes: self.get(table, &schema::HEAD_BYTES).size(),
            body_bytes: self.get(table, &schema::BODY_BYTES).size(),
            idle_ms: self.get(table, &schema::HTTP_IDLE_MS).value,
            slow_ms: self.get(table, &schema::SLOW_MS).value,
            write_ms: self.get(table, &schema::WRITE_MS).value,
            connections: self.get(table, &schema::HTTP_CONNECTIONS).size(),
            auctions: self.get(table, &schema::AUCTIONS).size(),
            gzip_min_bytes: self.get(table, &schema::GZIP_MIN_BYTES).size(),
        }
    }

    /// `key` must not be above `other`.
    pub(super) fn not_above(&mut self, key: &str, got: &Got<u64>, other_key: &str, other: &Got<u64>) {
        if got.sound && other.sound && got.value > other.value {
            // The one that was written is the one to be changed.
            let (allowed, nearest) = (format!("at most {other_key}, which is {}", other.value), other.value);
            if got.written || !other.written {
                self.rule(got.at, key.into(), got.value.to_string(), allowed, Some(nearest.to_string()));
            } else {
                let allowed = format!("at least {key}, which is {}", got.value);
                self.rule(other.at, other_key.into(), nearest.to_string(), allowed, Some(got.value.to_string()));
            }
        }
    }

    fn auction(&mut self, table: Table<'_, '_>) -> (AuctionRules, Got<u64>, Got<u64>) {
        let increment = self.get(table, &schema::INCREMENT).value;
        let runner_up = self.get(table, &schema::RUNNER_UP).value;
        let tmax_max = self.get(table, &schema::TMAX_MAX_MS);
        let tmax_default = self.get(table, &schema::TMAX_DEFAULT_MS).at_most(&tmax_max);
        let network = self.get(table, &schema::NETWORK_MS);
        let answer = self.get(table, &schema::ANSWER_MS);
        let dsp = self.get(table, &schema::DSP_MS);
        let dsp_min = self.get(table, &schema::DSP_MIN_MS);
        let dsp_network = self.get(table, &schema::DSP_NETWORK_MS);
        self.not_above("auction.tmax_default_ms", &tmax_default, "auction.tmax_max_ms", &tmax_max);
        self.whole_deadline(&tmax_max, &network, &answer, &dsp);
        self.below("auction.dsp_min_ms", &dsp_min, "auction.dsp_ms", &dsp);
        // Else the tmax told to a DSP could be nothing.
        self.below("auction.dsp_network_ms", &dsp_network, "auction.dsp_min_ms", &dsp_min);
        let rules = AuctionRules {
            increment,
            runner_up,
            tmax_default_ms: tmax_default.ms(),
            tmax_max_ms: tmax_max.ms(),
            network_ms: network.ms(),
            answer_ms: answer.ms(),
            dsp_ms: dsp.ms(),
            dsp_min_ms: dsp_min.ms(),
            dsp_network_ms: dsp_network.ms(),
            asked_max: self.get(table, &schema::ASKED_MAX).size(),
            schain: self.sections(table, "schain").first().map(|t| self.schain(*t)),
        };
        (rules, dsp, dsp_min)
    }

    /// `key` must be below `other`.
    pub(super) fn below(&mut self, key: &str, got: &Got<u64>, other_key: &str, other: &Got<u64>) {
        if got.sound && other.sound && got.value >= other.value {
            if got.written || !other.written {
                let allowed = format!("less than {other_key}, which is {}", other.value);
                let nearest = other.value.checked_sub(1).map(|n| n.to_string());
                self.rule(got.at, key.into(), got.value.to_string(), allowed, nearest);
            } else {
                let allowed = format!("more than {key}, which is {}", got.value);
                let nearest = Some((got.value + 1).to_string());
                self.rule(other.at, other_key.into(), other.value.to_string(), allowed, nearest);
            }
        }
    }

    /// What DSPs get and what the ways take has to fit into the longest auction.
    fn whole_deadline(&mut self, tmax_max: &Got<u64>, network: &Got<u64>, answer: &Got<u64>, dsp: &Got<u64>) {
        let parts = [("dsp_ms", dsp), ("network_ms", network), ("answer_ms", answer)];
        if !tmax_max.sound || parts.iter().any(|p| !p.1.sound) {
            return;
        }
        let sum: u64 = parts.iter().map(|p| p.1.value).sum();
        if sum <= tmax_max.value {
            return;
        }
        let over = sum - tmax_max.value;
        // Shorten what was written first, DSPs' time before ours; else say how long tmax_max_ms had to be.
        let shorter = parts.iter().find(|p| p.1.written && p.1.value > over);
        let (name, got, nearest) = match shorter {
            Some((name, got)) => (*name, *got, got.value - over),
            None => ("tmax_max_ms", tmax_max, sum),
        };
        let found = format!("dsp_ms {} + network_ms {} + answer_ms {} = {sum}", dsp.value, network.value, answer.value);
        let allowed = format!("at most tmax_max_ms, which is {}", tmax_max.value);
        self.rule(got.at, format!("auction.{name}"), found, allowed, Some(format!("{name} = {nearest}")));
    }

    fn schain(&mut self, table: Table<'_, '_>) -> SchainNode {
        SchainNode {
            asi: self.get(table, &schema::ASI).value,
            sid: self.get(table, &schema::SID).value,
            name: self.find(table, &schema::SCHAIN_NAME).map(|n| n.value),
            domain: self.find(table, &schema::SCHAIN_DOMAIN).map(|d| d.value),
        }
    }

    fn rates(&mut self, table: Table<'_, '_>) -> Got<RateTable> {
        let id = self.get(table, &schema::RATES_ID).value;
        let accounting = self.get(table, &schema::ACCOUNTING);
        let Got { value, at, written, sound } = self.get(table, &schema::TABLE);
        let mut rates = if written { value } else { Vec::new() };
        match rates.binary_search_by_key(&accounting.value, |r| r.0) {
            Ok(i) if rates[i].1 == Rate::ONE || !accounting.sound => {}
            Ok(_) => {
                let (key, found) = (format!("rates.table.{}", accounting.value), "another rate than 1".to_owned());
                let allowed = "1 for the accounting currency, or no entry".to_owned();
                self.rule(at, key, found, allowed, Some("1".to_owned()));
            }
            Err(i) => rates.insert(i, (accounting.value, Rate::ONE)),
        }
        let table = RateTable { id, accounting: accounting.value, rates };
        Got { value: table, at, written, sound: sound && accounting.sound }
    }

    /// Every currency that is named has a rate.
    pub(super) fn rated(&mut self, key: &str, named: &[Placed<Currency>], rates: &Got<RateTable>) -> Vec<Currency> {
        // A table that could not be read is a mistake of its own already.
        for currency in named.iter().filter(|c| rates.sound && rates.value.rate(c.value).is_none()) {
            let known: Vec<&str> = rates.value.rates.iter().map(|r| r.0.as_str()).collect();
            let nearest = suggest::nearest(currency.value.as_str(), known.iter().copied()).map(quoted);
            let found = format!("{}, which has no rate", quoted(currency.value.as_str()));
            let allowed = format!("a currency of rates.table: {}", known.join(", "));
            self.rule(currency.at, key.to_owned(), found, allowed, nearest);
        }
        named.iter().map(|c| c.value).collect()
    }

    /// A value that another section of the kind has too.
    pub(super) fn once(&mut self, key: &str, got: &Got<String>, seen: &mut Vec<(String, usize)>) {
        if !got.sound {
            return;
        }
        match seen.iter().find(|s| s.0 == got.value) {
            Some(&(_, first)) => {
                let found = format!("{} again, first on line {}", quoted(&got.value), self.places.of(first).0);
                self.rule(got.at, key.to_owned(), found, "each one once".to_owned(), None);
            }
            None => seen.push((got.value.clone(), got.at)),
        }
    }
}

/// The top, its sections, theirs.
fn all_sections(file: &'static Section) -> impl Iterator<Item = &'static Section> {
    let below = file.sections.iter().flat_map(|s| std::iter::once(*s).chain(s.sections.iter().copied()));
    std::iter::once(file).chain(below)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
