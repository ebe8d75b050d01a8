//! Notices that come in: read, recorded, answered, all in one go.
//! Owns: which notices this core has recorded lately. Runs on: each bidder core. Called by: the bidder.
//! Never: acts on a notice: flush does, which sees those of all cores in one order and tells the first of its kind from the
//! others; answers before the record is in the black box.
//! Full: a notice whose record has no room gets 503, and comes again.
use super::{
    Bidder,
    ingress::{Answered, ClientKey, Whole},
    reading::{Refused, Refusee},
};
use crate::planted::{Fault, planted};
use outcry::{
    auction::{Later, fill_later, price_vector},
    http1::{self, ResponseExtra},
    notice::{
        price::{Charged, Said, charged},
        target::target,
        token::Token,
        told::{NOTICE_BYTES_MAX, NOTICE_VERSION, Name, Notice},
    },
    record::{
        frame::Kind,
        labels::{AnswerKind, Counter, Refusal},
    },
    units::{Now, mix},
};

/// What a notice's path begins with.
pub(super) const PATH: &[u8] = b"/notice/";
/// Places for the notices that this core has recorded: repeats come within seconds, as a rule.
const HAD: usize = 1 << 14;
/// For whoever called, all that is wrong with a token is one.
const NO_SUCH_NOTICE: Refused = Refused { status: 404, why: Refusal::NoRoute, reason: "no_such_notice", close: false };
const NO_ROOM: Refused = Refused { status: 503, why: Refusal::NoRecord, reason: "try_again", close: false };

/// See the module.
#[derive(Default)]
pub(super) struct Noticing {
    /// The last notice recorded of each place; nothing until notices are ours.
    had: Vec<Option<Name>>,
    seed: u64,
    /// What a token spells, and the URL that is called in turn.
    token: Vec<u8>,
    url: Vec<u8>,
    /// A DSP's URL while one of ours is made around it.
    pub(super) made: [Vec<u8>; 2],
    /// One that is called when its bid has lost.
    pub(super) lost: [Vec<u8>; 2],
    /// No more notices can be told apart.
    full: bool,
}

impl Noticing {
    /// Makes room for what it has to remember, once.
    pub(super) fn begin(&mut self, seed: u64) {
        if self.had.is_empty() {
            self.seed = seed;
            self.had.resize(HAD, None);
        }
    }

    /// Is there no room to tell more of them apart?
    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
    }
}

fn place(seed: u64, name: &Name) -> usize {
    let who = mix(seed ^ name.event.seq) ^ u64::from(name.event.core) << 16 ^ u64::from(name.event.epoch) << 32;
    mix(who ^ u64::from(name.imp) << 8 ^ name.kind as u64) as usize % HAD
}

impl Bidder {
    /// A notice is whole.
    pub(super) fn on_notice(&mut self, client: ClientKey, whole: Whole, now: Now) {
        let end = self.notice(&whole, now);
        let (head, body) = whole.bytes.split_at(whole.head.len);
        match end {
            Ok(()) => self.acknowledge(client, whole.place),
            // Neither the token nor what follows it stands in a record of what was refused.
            Err(refused) => {
                let refusee = Refusee { exchange: None, target: &PATH[..PATH.len() - 1], head_bytes: head.len(), body };
                self.refuse(client, whole.place, &refused, refusee, now);
            }
        }
        self.buffers.put(whole.bytes);
    }

    fn notice(&mut self, whole: &Whole, now: Now) -> Result<(), Refused> {
        let Bidder { snapshots, current, noticing, telling, recorder, metrics, disk_full, .. } = self;
        let snapshot = snapshots[*current].as_ref().ok_or(NO_SUCH_NOTICE)?;
        let notices = snapshot.core.notices.as_ref().ok_or(NO_SUCH_NOTICE)?;
        let Noticing { had, seed, token: bytes, url, full, .. } = noticing;
        let text = whole.head.path.of(&whole.bytes).strip_prefix(PATH).unwrap_or_default();
        let token = Token::read(text, &notices.keys, bytes).map_err(|_| {
            metrics.count(Counter::NoticesForged);
            NO_SUCH_NOTICE
        })?;
        let name = token.name();
        let place = place(*seed, &name);
        if had.get(place) == Some(&Some(name)) {
            metrics.count(Counter::NoticesRepeated);
            return Ok(());
        }
        let expired = token.expired(u32::try_from(now.unix_ms() / 1_000).unwrap_or(u32::MAX));
        let query = whole.head.query.of(&whole.bytes);
        let Charged { price, charge, said } = charged(&token, parameter(query, b"p"));
        url.clear();
        if token.open {
            let [loss, min_to_win] = [b"l", b"m"].map(|name| parameter(query, name).unwrap_or_default());
            let wall_ms = now.unix_ms();
            let host = target(token.url, &notices.hosts).ok().map(|target| target.host);
            let seal = host.and_then(|host| notices.seals.get(host)?.as_ref());
            let seal = seal.map(|seal| (seal, price_vector(token.event, token.imp, wall_ms)));
            fill_later(token.url, &Later { price, loss, min_to_win, wall_ms, seal }, url);
        } else {
            url.extend_from_slice(token.url);
        }
        let record = Notice {
            name,
            expired,
            said,
            price,
            charge,
            held: token.awaited.then_some(token.charge),
            account: token.account,
            period: token.period,
            expires_s: token.expires_s,
            buyer: token.buyer,
            url,
        };
        if planted(Fault::NoticeUnrecorded) && name.event.seq.is_multiple_of(8) {
            return Ok(());
        }
        let has_room = !*full && !*disk_full;
        let encode = |out: &mut Vec<u8>| record.encode(out);
        if !has_room || !recorder.unpromised(Kind::Notice, NOTICE_VERSION, NOTICE_BYTES_MAX, now, encode) {
            metrics.count(Counter::NoticesNoRoom);
            return Err(NO_ROOM);
        }
        if let Some(had) = had.get_mut(place) {
            *had = Some(name);
        }
        if snapshot.config().notices.device_headers && !expired {
            telling.devices.keep(name, &whole.bytes[..whole.head.len]);
        }
        metrics.count(Counter::Records);
        metrics.count(if expired { Counter::NoticesExpired } else { Counter::NoticesTaken });
        let said = match said {
            Said::Nothing => None,
            Said::Same => Some(Counter::NoticePricesSame),
            Said::Lower => Some(Counter::NoticePricesLower),
            Said::BelowFloor => Some(Counter::NoticePricesBelowFloor),
            Said::Higher => Some(Counter::NoticePricesHigher),
            Said::Unfilled => Some(Counter::NoticePricesUnfilled),
            Said::Unreadable => Some(Counter::NoticePricesUnreadable),
        };
        if let Some(said) = said {
            metrics.count(said);
        }
        Ok(())
    }

    /// 204: it is recorded, or was before.
    fn acknowledge(&mut self, client: ClientKey, place: u64) {
        let Bidder { ingress, buffers, metrics, recorder, .. } = self;
        metrics.answer(AnswerKind::Notice, 0, 0);
        let Some(mut out) = ingress.answer_buffer(client, place, buffers) else { return };
        let close = ingress.closes_after(client, place);
        let extra = ResponseExtra { content_type: None, gzip: false, close, allow: None };
        http1::write_response(&mut out, 204, extra, b"");
        if let Some(record) = recorder.durable_at() {
            ingress.wait_for(client, record);
        }
        ingress.answered(client, place, out, Answered::default(), buffers);
    }
}

/// What a query says of a name, the first time that it does.
fn parameter<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|b| *b == b'&').find_map(|part| part.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_whole_names() {
        for (query, want) in [
            (&b"p=0.5"[..], Some(&b"0.5"[..])),
            (b"x=1&p=0.5&p=2", Some(b"0.5")),
            (b"pp=1", None),
            (b"p", None),
            (b"", None),
            (b"p=", Some(b"")),
        ] {
            assert_eq!(parameter(query, b"p"), want, "{}", String::from_utf8_lossy(query));
        }
    }
}
