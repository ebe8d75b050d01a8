//! Our own notice URLs in an answer, each with the DSP's inside.
//! Owns: nothing. Runs on: each bidder core. Called by: `answer`. Never: carries a URL that we could not call.
use super::{
    Answers, Auction, Inputs, Start,
    clearing::Win,
    macros::{Values, fill_plain},
    markup::is_behind_nurl,
};
use crate::{
    config::resolved::{Dsp, Losses, Position},
    notice::{
        keys::Keys,
        target::{Uncarried, target},
        token::{Kind, Token, URL_MAX},
    },
    openrtb::{codes::Loss, response::Bid, text::Text},
    units::{Cpm, Round},
};

/// Room for what a macro that is not filled yet becomes: the longest that is usual.
const FILLED: usize = 48;

/// What our notice URLs are made of.
#[derive(Debug)]
pub struct OurNotices<'a> {
    /// What they begin with, up to `/notice/`.
    pub url: &'a str,
    /// What signs them.
    pub keys: &'a Keys,
    /// No DSP's own URL may go out, but one whose answer is the markup.
    pub only: bool,
    /// How long after the auction they hold, seconds.
    pub life_s: u32,
    /// The DSPs of the configuration that the auction began with.
    pub dsps: &'a [Dsp],
    /// For a URL while it is made: as the DSP meant it, and filled.
    pub scratch: &'a mut [Vec<u8>; 2],
    /// What became of each URL.
    pub tally: &'a mut Tally,
}

/// DSPs' notice URLs of answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Carried by one of ours.
    pub carried: u64,
    /// Passed on as they are, by [`Uncarried`].
    pub uncarried: [u64; Uncarried::ALL.len()],
}

impl Auction {
    /// Appends our URL that carries the DSP's, as it stands in a JSON string, or nothing where none may stand; `false`: the DSP's
    /// is to be written.
    pub(super) fn write_notice(
        &self,
        (kind, text): (Kind, Text),
        (win, bid, bytes): (&Win, &Bid, &[u8]),
        values: &Values<'_>,
        ours: &mut OurNotices<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut made = self.notice((kind, text), (win, bid, bytes), values, ours, out);
        if let Err(why) = made
            && self.awaits(kind)
        {
            // Without its notice the win could never be charged: then its DSP is not told of it.
            ours.tally.uncarried[why as usize] += 1;
            made = self.notice((kind, Text::NONE), (win, bid, bytes), values, ours, out);
        }
        match made {
            Ok(()) => ours.tally.carried += 1,
            Err(why) => ours.tally.uncarried[why as usize] += 1,
        }
        // Where none but ours may go out, what turned out too long in the end is no URL at all.
        made.is_ok() || (ours.only && made != Err(Uncarried::Markup))
    }

    /// Is a notice of this kind what a charge waits for?
    pub(super) fn awaits(&self, kind: Kind) -> bool {
        kind == Kind::Billed && self.inputs().awaited_s != 0
    }

    fn notice(
        &self,
        (kind, text): (Kind, Text),
        (win, bid, bytes): (&Win, &Bid, &[u8]),
        values: &Values<'_>,
        ours: &mut OurNotices<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Uncarried> {
        if kind == Kind::Won && is_behind_nurl(bid) {
            return Err(Uncarried::Markup);
        }
        let inputs = self.inputs();
        let dsp = inputs.legs.get(usize::from(win.leg)).and_then(|leg| ours.dsps.get(usize::from(leg.dsp.0)));
        let hosts = dsp.map_or(&[][..], |dsp| &dsp.notice_hosts);
        let [meant, url] = &mut *ours.scratch;
        meant.clear();
        url.clear();
        let plain = if text.escaped() {
            meant.extend(text.bytes(bytes));
            meant.as_slice()
        } else {
            text.raw(bytes)
        };
        fill_plain(plain, values, url);
        if text.is_some() {
            target(url, hosts)?;
            if url.len() > URL_MAX {
                return Err(Uncarried::TooLong);
            }
        }
        let open = values.position == Position::Intermediate;
        // What is filled when the notice comes is to have room then.
        if open && url.len() + memchr::memmem::find_iter(url, b"${").count() * FILLED > URL_MAX {
            return Err(Uncarried::TooLong);
        }
        // Whom the record would name: the account does, where there is one.
        let mut named = [0; BUYER_MAX];
        let buyer = if win.account.is_some() { &[][..] } else { buyer(inputs, win, &mut named) };
        let token = Token {
            kind,
            event: inputs.event,
            imp: win.imp,
            price: win.price,
            floor: self.floor_said(win),
            charge: win.charge,
            account: win.account,
            period: win.period,
            open,
            awaited: self.awaits(kind),
            expires_s: expires_s(inputs.wall_ms, ours.life_s),
            buyer,
            url,
        };
        let from = out.len();
        out.extend_from_slice(ours.url.as_bytes());
        out.extend_from_slice(b"/notice/");
        if token.write(ours.keys, out).is_err() {
            out.truncate(from);
            return Err(Uncarried::TooLong);
        }
        // Whoever decides after us fills what only he knows.
        if open {
            out.extend_from_slice(b"?p=${AUCTION_PRICE}");
            if kind == Kind::Lost {
                out.extend_from_slice(b"&l=${AUCTION_LOSS}&m=${AUCTION_MIN_TO_WIN}");
            }
        }
        Ok(())
    }

    /// Hands out the `lurl` of each bid that lost, with what its DSP may know filled in; none of one that leads
    /// nowhere where that DSP takes notices. `dsps` as in [`OurNotices`].
    pub fn losses(
        &self,
        (answers, s): (&impl Answers, &Start<'_>),
        dsps: &[Dsp],
        disclosed: Losses,
        scratch: &mut [Vec<u8>; 2],
        mut tell: impl FnMut(Option<&[u8]>),
    ) {
        if disclosed == Losses::Off {
            return;
        }
        let (inputs, decision) = (self.inputs(), self.decision());
        for (at, (input, loss)) in inputs.bids.iter().zip(&decision.losses).enumerate() {
            let (response, bytes) = answers.leg(input.leg);
            let bid = response.bids.get(usize::from(input.index)).filter(|bid| bid.lurl.is_some());
            let Some(bid) = bid.filter(|_| *loss != Loss::Won) else { continue };
            let Some(leg) = inputs.legs.get(usize::from(input.leg)) else { continue };
            let Some(dsp) = dsps.get(usize::from(leg.dsp.0)) else { continue };
            let imp = s.request.imps.get(usize::from(input.imp)).copied().unwrap_or_default();
            let min_to_win = match disclosed {
                Losses::MinToWin => u16::try_from(at).ok().and_then(|at| decision.min_to_win(inputs, at)),
                Losses::Off | Losses::Reason => None,
            };
            let values = Values {
                lost: Some((*loss, min_to_win)),
                ..Values::of(s, (inputs, decision.answer_currency), &imp, (bid, bytes))
            };
            let [meant, url] = &mut *scratch;
            meant.clear();
            url.clear();
            meant.extend(bid.lurl.bytes(bytes));
            fill_plain(meant, &values, url);
            tell(target(url, &dsp.notice_hosts).is_ok().then_some(url.as_slice()));
        }
    }

    /// The floor that applied to a win, in the answer's currency, never above the price.
    fn floor_said(&self, win: &Win) -> Cpm {
        let inputs = self.inputs();
        let floor = inputs.bids.get(usize::from(win.input)).and_then(|bid| inputs.floor_of(bid));
        let said = match (floor, inputs.answer_rate) {
            (Some(floor), _) if floor.currency == inputs.answer_currency => floor.amount,
            (Some(floor), Some(rate)) => floor.due.map_or(Cpm::ZERO, |due| rate.from_accounting(due, Round::Down)),
            _ => Cpm::ZERO,
        };
        said.min(win.price)
    }
}

/// Longest name of who bids where no account pays.
pub const BUYER_MAX: usize = 255;

/// Who bids where no account pays, as records say it: `dsp/seat`, cut at [`BUYER_MAX`] bytes.
pub fn buyer<'b>(inputs: &Inputs, win: &Win, out: &'b mut [u8; BUYER_MAX]) -> &'b [u8] {
    let name = inputs.legs.get(usize::from(win.leg)).map_or(&[][..], |leg| inputs.text(leg.name));
    let seat = inputs.bids.get(usize::from(win.input)).map_or(&[][..], |bid| inputs.text(bid.seat));
    let mut len = 0;
    for byte in name.iter().chain(b"/").chain(seat).take(BUYER_MAX) {
        out[len] = *byte;
        len += 1;
    }
    &out[..len]
}

/// When the notices of an auction of this moment expire, seconds since 1970.
pub fn expires_s(wall_ms: u64, life_s: u32) -> u32 {
    u32::try_from(wall_ms / 1_000).unwrap_or(u32::MAX).saturating_add(life_s)
}

/// May the DSP's URLs all be carried, as far as is known before the auction is decided?
pub(super) fn carries(bid: &Bid, bytes: &[u8], dsp: &Dsp) -> bool {
    let mut meant = [0; URL_MAX];
    let mut fits = |text: Text| {
        let url = if text.escaped() {
            let mut len = 0;
            for byte in text.bytes(bytes) {
                let Some(place) = meant.get_mut(len) else { return false };
                *place = byte;
                len += 1;
            }
            &meant[..len]
        } else {
            text.raw(bytes)
        };
        let macros = memchr::memmem::find_iter(url, b"${").count();
        !text.is_some() || (url.len() + macros * FILLED <= URL_MAX && target(url, &dsp.notice_hosts).is_ok())
    };
    (is_behind_nurl(bid) || fits(bid.nurl)) && fits(bid.burl) && fits(bid.lurl)
}
