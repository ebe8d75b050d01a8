//! The bid response (section 4.2): winners' bids as they came, with our price and the macros filled.
//! Owns: nothing. Runs on: each bidder core. Called by: [`super::Auction::write_answer`], once per answer.
//! Never: re-encodes a field; what we do not know of a bid passes through byte for byte.
use super::{
    Answers, Auction, Start,
    clearing::{Win, bits},
    macros::{Values, fill, price_vector},
    markup::Place,
    noticed::OurNotices,
};
use crate::{
    notice::token::Kind,
    openrtb::{
        codes::Nbr,
        member::member,
        response::Bid,
        text::{Span, Text},
    },
};
use std::io::Write;

impl Auction {
    /// Writes the answer of a decided auction: the bid response when something won, or of house ads, else
    /// [`Auction::write_no_bid`].
    /// `bidid` is the event id. All prices are in [`super::Decision::answer_currency`]. With `notices` the bids' notice URLs are
    /// ours, as far as one of ours can carry the DSP's.
    pub fn write_answer(
        &self,
        answers: &impl Answers,
        s: &Start<'_>,
        mut notices: Option<&mut OurNotices<'_>>,
        out: &mut Vec<u8>,
    ) {
        let decision = self.decision();
        if decision.wins.is_empty() && !self.record().house.is_empty() {
            return self.write_house(s, out);
        }
        if decision.wins.is_empty() {
            return self.write_no_bid(s, decision.nbr.unwrap_or(Nbr::NoBids), out);
        }
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(s.request.id.raw(s.body));
        out.extend_from_slice(b"\",\"bidid\":\"");
        out.extend_from_slice(&self.inputs().event.text());
        out.extend_from_slice(b"\",\"cur\":\"");
        out.extend_from_slice(&decision.answer_currency.0);
        out.extend_from_slice(b"\",\"seatbid\":[");
        // Wins of one DSP and seat share a seatbid; a group has one of its own, so that it stays one.
        let mut open = if decision.wins.len() >= 64 { u64::MAX } else { (1 << decision.wins.len()) - 1 };
        let mut first_seat = true;
        while open != 0 {
            let head = &decision.wins[open.trailing_zeros() as usize];
            separate(&mut first_seat, out);
            out.extend_from_slice(b"{\"bid\":[");
            let mut first_bid = true;
            for at in bits(open) {
                let win = &decision.wins[at];
                if self.same_seat(answers, head, win) {
                    open &= !(1 << at);
                    let (response, bytes) = answers.leg(win.leg);
                    if let Some(bid) = response.bids.get(win.bid as usize) {
                        separate(&mut first_bid, out);
                        let markup = answers.markup(at);
                        self.write_bid(s, (win, bid, bytes), markup, notices.as_deref_mut(), out);
                    }
                }
            }
            out.push(b']');
            let (response, bytes) = answers.leg(head.leg);
            let seat = response.bids.get(head.bid as usize).map_or(Text::NONE, |b| b.seat);
            if seat.is_some() {
                out.extend_from_slice(b",\"seat\":\"");
                out.extend_from_slice(seat.raw(bytes));
                out.push(b'"');
            }
            if head.group {
                out.extend_from_slice(b",\"group\":1");
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }

    /// Writes a no-bid for exchanges that want to hear the reason; `nbr` as in facts of the field, private codes
    /// from 500.
    pub fn write_no_bid(&self, s: &Start<'_>, nbr: Nbr, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(s.request.id.raw(s.body));
        let _ = write!(out, "\",\"nbr\":{},\"seatbid\":[]}}", nbr as u16); // a vector takes everything
    }

    fn same_seat(&self, answers: &impl Answers, a: &Win, b: &Win) -> bool {
        if a.leg != b.leg || a.group != b.group {
            return false;
        }
        let (response, bytes) = answers.leg(a.leg);
        match (response.bids.get(a.bid as usize), response.bids.get(b.bid as usize)) {
            (Some(x), Some(y)) if a.group => x.seatbid == y.seatbid,
            (Some(x), Some(y)) => x.seat.is_some() == y.seat.is_some() && x.seat.same(bytes, y.seat, bytes),
            _ => false,
        }
    }

    /// What the macros of a winner stand for.
    pub(super) fn values<'a>(&self, s: &Start<'a>, (win, bid, bytes): (&Win, &Bid, &'a [u8])) -> Values<'a> {
        let inputs = self.inputs();
        let imp = s.request.imps.get(win.imp as usize).copied().unwrap_or_default();
        Values {
            price: win.price,
            bid_price: win.bid_price,
            min_to_win: win.min_to_win,
            seal: inputs
                .legs
                .get(usize::from(win.leg))
                .and_then(|leg| s.seals.get(usize::from(leg.dsp.0))?.as_ref())
                .map(|seal| (seal, price_vector(inputs.event, win.imp, inputs.wall_ms))),
            ..Values::of(s, (inputs, self.decision().answer_currency), &imp, (bid, bytes))
        }
    }

    fn write_bid(
        &self,
        s: &Start<'_>,
        (win, bid, bytes): (&Win, &Bid, &[u8]),
        markup: Option<&[u8]>,
        mut notices: Option<&mut OurNotices<'_>>,
        out: &mut Vec<u8>,
    ) {
        let values = self.values(s, (win, bid, bytes));
        let mut edits = [
            (bid.price_span, What::Price),
            (bid.adm.span(), What::Text),
            (bid.nurl.span(), What::Notice(Kind::Won, bid.nurl)),
            (bid.burl.span(), What::Notice(Kind::Billed, bid.burl)),
            (bid.lurl.span(), What::Notice(Kind::Lost, bid.lurl)),
        ];
        let markup = markup.unwrap_or_default();
        if !markup.is_empty() {
            match Place::of(bid, bytes) {
                Some(Place::Adm) => (edits[1].1, edits[2].1) = (What::Markup { key: false }, What::Nothing),
                Some(Place::Nurl(whole)) => edits[2] = (whole, What::Markup { key: true }),
                None => {}
            }
        }
        // A charge that waits for its notice needs one, whether or not the DSP wants to hear of it.
        let added = notices.is_some() && self.awaits(Kind::Billed) && !bid.burl.is_some();
        let burl = if added { spoilt(bid, bytes, b"burl") } else { None };
        if let Some(value) = burl {
            edits[3] = (value, What::OurBill);
        }
        edits.sort_unstable_by_key(|(span, _)| (span.at, span.len));
        let (mut at, end) = (bid.whole.at as usize, bid.whole.end().min(bytes.len()));
        for (span, what) in edits {
            let (from, to) = (span.at as usize, span.end());
            // Absent ones are empty and lie before the bid.
            let fills = match what {
                What::Notice(kind, text) => self.awaits(kind) && text.is_some(),
                What::Markup { .. } => true,
                _ => false,
            };
            if from < at || to < from || to == from && !fills || to > end {
                continue;
            }
            out.extend_from_slice(&bytes[at..from]);
            let mut ours = |(kind, text), out: &mut Vec<u8>| match notices.as_deref_mut() {
                Some(ours) => self.write_notice((kind, text), (win, bid, bytes), &values, ours, out),
                None => false,
            };
            match what {
                What::Price => win.price.write(out),
                What::Notice(kind, text) if ours((kind, text), out) => {}
                What::Text | What::Notice(..) => fill(&bytes[from..to], &values, out),
                What::Markup { key: false } => fill(markup, &values, out),
                What::Markup { key: true } => {
                    out.extend_from_slice(b"\"adm\":\"");
                    fill(markup, &values, out);
                    out.push(b'"');
                }
                What::OurBill => {
                    out.push(b'"');
                    ours((Kind::Billed, Text::NONE), out);
                    out.push(b'"');
                }
                What::Nothing => {}
            }
            at = to;
        }
        out.extend_from_slice(bytes.get(at..end).unwrap_or(&[]));
        if let Some(ours) = notices
            && added
            && burl.is_none()
            && out.last() == Some(&b'}')
        {
            out.pop();
            out.extend_from_slice(b",\"burl\":\"");
            self.write_notice((Kind::Billed, Text::NONE), (win, bid, bytes), &values, ours, out);
            out.extend_from_slice(b"\"}");
        }
    }
}

/// The value of a member that the bid's reader took for absent, if it is there after all: `null`, or no string.
fn spoilt(bid: &Bid, bytes: &[u8], name: &[u8]) -> Option<Span> {
    // Few bids have it, and a look for its name is a tenth of a look for the member.
    memchr::memmem::find(bid.whole.of(bytes), name)?;
    Some(member(bytes, bid.whole, name)?.value)
}

/// What a stretch of a bid is.
#[derive(Clone, Copy)]
enum What {
    Price,
    Text,
    Notice(Kind, Text),
    /// Where fetched markup goes, after its key or alone.
    Markup {
        key: bool,
    },
    /// A `burl` of ours in the place of a value that is none.
    OurBill,
    /// What has no use any more.
    Nothing,
}

pub(super) fn separate(first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}
