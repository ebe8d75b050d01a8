//! One auction in flight: the bytes it lives on and the state machines it drives. Glue only: what is decided about
//! money, floors, eligibility or time is decided in `outcry`.
//! Owns: the request's buffer, the answers' buffers, the auction. Runs on: each bidder core, pooled.
use super::{
    buffers::Buffers,
    egress::{Done, Reply},
    ingress::{ClientKey, Whole},
    slab::Key,
    snapshot::Snapshot,
};
use bumpalo::Bump;
use outcry::{
    auction::{Answers, Auction, Start},
    dsp::deadline::Deadlines,
    limits::ASKED_MAX,
    openrtb::{codes::Outcome, request::Request, response::Response},
    units::{DspIx, EventId, ExchangeIx, Now},
};

/// One DSP that was asked.
#[derive(Debug, Default)]
pub struct Leg {
    /// Whom.
    pub dsp: DspIx,
    /// The call, while it is under way.
    pub call: Option<Key>,
    /// When its answer stops counting.
    pub until_ns: u64,
    /// When it was asked.
    pub asked_ns: u64,
    body: Vec<u8>,
}

/// One auction in flight.
#[derive(Default)]
pub struct Flight {
    /// Who gets the answer.
    pub client: Option<ClientKey>,
    /// The answer's place in the order of that client's.
    pub place: u64,
    /// Which snapshot it began with.
    pub snapshot: usize,
    /// Who sent the request.
    pub exchange: ExchangeIx,
    /// Its name.
    pub event: EventId,
    /// The randomness it draws on.
    pub entropy: u64,
    /// The wall clock and the clock when the request was whole.
    pub begun: Now,
    /// First byte of the request.
    pub arrival_ns: u64,
    /// Its requests to DSPs were out: the end of that turn; 0: not yet.
    pub asked_ns: u64,
    /// The whole `tmax` is over then.
    pub expires_ns: u64,
    /// Its deadlines.
    pub deadlines: Option<Deadlines>,
    /// The client takes gzip.
    pub accept_gzip: bool,
    /// Its stages are timed.
    pub sampled: bool,
    /// The view of the request.
    pub request: Request,
    /// The state machine.
    pub auction: Auction,
    bytes: Vec<u8>,
    body_at: usize,
    legs: Vec<Leg>,
    asked: usize,
}

impl Flight {
    /// Takes over a request.
    pub fn begin(&mut self, client: ClientKey, whole: Whole, snapshot: usize, now: Now) {
        self.client = Some(client);
        self.place = whole.place;
        self.snapshot = snapshot;
        self.exchange = whole.route;
        self.begun = now;
        self.arrival_ns = whole.arrival_ns;
        self.deadlines = None;
        self.asked_ns = 0;
        self.accept_gzip = whole.head.accept_gzip;
        self.body_at = whole.head.len;
        self.bytes = whole.bytes;
        self.asked = 0;
    }

    /// The request's bytes, head in front, and where its body begins.
    pub fn bytes(&self) -> (&[u8], usize) {
        (&self.bytes, self.body_at)
    }

    /// One read of each cache line of the flight itself that an answer needs.
    pub fn touch(&self) -> usize {
        let (r, i) = (&self.request, self.auction.inputs());
        self.asked
            ^ self.bytes.len()
            ^ self.legs.len()
            ^ usize::from(self.deadlines.is_some())
            ^ r.imps.len()
            ^ r.texts.len()
            ^ r.deals.len()
            ^ i.imps.len()
            ^ i.legs.len()
            ^ i.bids.len()
            ^ i.texts.len()
    }

    /// One read of each of its parts elsewhere.
    pub fn touch_parts(&self) -> usize {
        let r = &self.request;
        let i = self.auction.inputs();
        let mut sum = r.imps.first().map_or(0, |x| x.exp_s as usize);
        sum ^= r.texts.first().map_or(0, |x| usize::from(x.is_some()));
        sum ^= r.sizes.first().map_or(0, |x| x.0 as usize);
        sum ^= i.imps.first().map_or(0, |x| usize::from(x.refused));
        sum ^= i.legs.iter().fold(0, |s, l| s ^ l.bids_seen as usize);
        sum ^= i.bids.last().map_or(0, |b| usize::from(b.index));
        sum ^= usize::from(i.texts.last().copied().unwrap_or(0));
        sum ^= self.legs[..self.asked].iter().fold(0, |s, l| s ^ l.body.len());
        sum ^ usize::from(self.bytes.get(self.body_at).copied().unwrap_or(0))
    }

    /// Reads the request.
    pub fn parse(&mut self, arena: &Bump) -> Result<(), outcry::openrtb::validate::Refusal> {
        self.request.parse(&self.bytes, self.body_at, arena)
    }

    /// What the state machine is told about the auction, beside the state machine itself.
    pub fn start<'a>(&'a mut self, snapshot: &'a Snapshot) -> (Start<'a>, &'a mut Auction, &'a mut [Leg]) {
        let config = snapshot.config();
        let start = Start {
            event: self.event,
            config_id: config.id,
            rules: &config.auction,
            rates: &config.rates,
            exchange: &config.exchanges[self.exchange.0 as usize],
            exchange_ix: self.exchange,
            request: &self.request,
            body: &self.bytes,
            arrival_ns: self.arrival_ns,
            wall_ms: self.begun.unix_ms(),
            deadline_ns: self.deadlines.map_or(self.arrival_ns, |d| d.decide_ns),
            entropy: self.entropy,
        };
        (start, &mut self.auction, &mut self.legs[..self.asked])
    }

    /// Room for one more leg?
    pub fn may_ask(&self) -> bool {
        self.asked < ASKED_MAX
    }

    /// A DSP is asked; returns the index of its leg.
    pub fn ask(&mut self, dsp: DspIx, until_ns: u64, now_ns: u64) -> u8 {
        if self.legs.len() == self.asked {
            self.legs.push(Leg::default());
        }
        let leg = &mut self.legs[self.asked];
        (leg.dsp, leg.until_ns, leg.asked_ns, leg.call) = (dsp, until_ns, now_ns, None);
        self.asked += 1;
        (self.asked - 1) as u8
    }

    /// A leg of this flight.
    pub fn leg(&mut self, leg: u8) -> Option<&mut Leg> {
        self.legs[..self.asked].get_mut(leg as usize)
    }

    /// The legs.
    pub fn legs(&mut self) -> &mut [Leg] {
        &mut self.legs[..self.asked]
    }

    /// The earliest deadline among the calls under way.
    pub fn next_deadline(&self) -> Option<u64> {
        self.legs[..self.asked].iter().filter(|l| l.call.is_some()).map(|l| l.until_ns).min()
    }

    /// A call ended: the state machine is told, the answer's bytes are kept. Returns the DSP and its outcome. The answer
    /// is read into `view`, which is the core's and in its cache; only a winner's is read again, when it is needed.
    pub fn answered(
        &mut self,
        leg: u8,
        done: Done,
        snapshot: &Snapshot,
        view: &mut Response,
        now_ns: u64,
        buffers: &mut Buffers,
    ) -> Option<(DspIx, Outcome, u64)> {
        let (start, auction, legs) = self.start(snapshot);
        let l = legs.get_mut(leg as usize)?;
        l.call.take()?;
        if done.sent_ns > 0 {
            auction.leg_sent(leg, done.sent_ns);
        }
        if done.first_byte_ns > 0 {
            auction.leg_first_byte(leg, done.first_byte_ns);
        }
        let elapsed_ns = now_ns.saturating_sub(l.asked_ns);
        let failed = match done.reply {
            Reply::Failed(outcome) => outcome,
            Reply::Answer { status, body } => {
                buffers.put(std::mem::replace(&mut l.body, body));
                let body = l.body.as_slice();
                match status {
                    204 => Outcome::NoBid,
                    200 if body.iter().all(u8::is_ascii_whitespace) => Outcome::NoBid,
                    200 => {
                        let read = view.parse(body).map(|()| &*view).map_err(|_| ());
                        let dsp = &snapshot.config().dsps[l.dsp.0 as usize];
                        let outcome = auction.leg_answered(leg, dsp, read, body, &start, now_ns);
                        return Some((l.dsp, outcome, elapsed_ns));
                    }
                    _ => Outcome::BadStatus,
                }
            }
        };
        auction.leg_failed(leg, failed, now_ns);
        Some((l.dsp, failed, elapsed_ns))
    }

    /// It is over: every buffer goes back.
    pub fn end(&mut self, buffers: &mut Buffers) {
        buffers.put(std::mem::take(&mut self.bytes));
        for leg in &mut self.legs[..self.asked] {
            buffers.put(std::mem::take(&mut leg.body));
        }
        self.client = None;
        self.asked = 0;
    }
}

/// The winners' answers as the writer of our own answer sees them.
pub struct LegAnswers<'a> {
    legs: &'a [Leg],
    views: &'a [Response],
}

impl<'a> LegAnswers<'a> {
    /// Reads the answers of these legs again, into `views`.
    pub fn read(legs: &'a [Leg], winners: impl Iterator<Item = u8>, views: &'a mut Vec<Response>) -> LegAnswers<'a> {
        if views.len() < legs.len() {
            views.resize_with(legs.len(), Response::default);
        }
        let mut read = 0u64;
        for leg in winners {
            if read & 1 << leg == 0 {
                read |= 1 << leg;
                // It was read before, from the same bytes, and won.
                let again = views[leg as usize].parse(&legs[leg as usize].body);
                debug_assert!(again.is_ok(), "a winner's answer can be read");
            }
        }
        LegAnswers { legs, views }
    }
}

impl Answers for LegAnswers<'_> {
    fn leg(&self, leg: u8) -> (&Response, &[u8]) {
        (&self.views[leg as usize], &self.legs[leg as usize].body)
    }
}
