//! One auction in flight: the bytes that wait with it, and how its state machine hears of them. Glue only: what is decided about
//! money, floors, eligibility or time is decided in `outcry`.
//! Owns: the request's buffer and view, the answers' buffers. Runs on: each bidder core, pooled.
use super::{
    buffers::Buffers,
    egress::{Done, Reply},
    fetching::{Fetch, Fetching},
    ingress::{ClientKey, Whole},
    slab::Key,
    snapshot::Snapshot,
};
use bumpalo::Bump;
use outcry::{
    auction::{Answers, Auction, Start, expires_s, names_another},
    config::Settle,
    dsp::{breaker::Admission, deadline::Deadlines, worth::Kind},
    openrtb::{codes::Outcome, request::Request, response::Response},
    record::{labels::Stage, metrics::CoreMetrics, stages::StageTimes, trace::TraceId, user::Salt},
    units::{DspIx, EventId, ExchangeIx, Now, Probability},
};

/// DSPs that are asked as a rule: more make room as they come.
const LEGS: usize = 6;
/// With so many answers still to come, those of one turn may be the last of them.
const TOGETHER: usize = 2;
/// With fewer healthy DSPs asked than this, probes and troubled ones are waited for as well.
const HEALTHY_ENOUGH: usize = 2;
/// Bytes that are fetched together.
const LINE: usize = 64;

/// What came of asking a DSP, before anybody has read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Heard {
    /// Nothing yet.
    #[default]
    Waiting,
    /// An answer with this status; its body is kept if it is a 200.
    Answer(u16),
    /// None came.
    Failed(Outcome),
}

/// One DSP that was asked. Times are nanoseconds since boot.
#[derive(Debug, Default)]
pub struct Leg {
    /// Whom.
    pub dsp: DspIx,
    /// What came of it.
    pub heard: Heard,
    /// The call, while it is under way.
    pub call: Option<Key>,
    /// When its answer stops counting.
    pub until_ns: u64,
    /// Until then it would, had nothing been learned: what comes by then is to its sender's credit.
    pub fair_until_ns: u64,
    /// When it was asked.
    pub asked_ns: u64,
    /// When its request was handed to a connection, 0: never.
    pub sent_ns: u64,
    /// When the first byte of its answer came, 0: never.
    pub first_byte_ns: u64,
    /// When it was known what came of it.
    pub done_ns: u64,
    /// As what it was asked.
    pub as_what: Admission,
    /// With which probability it was asked.
    pub asked_probability: Probability,
    imps: u64,
    body: Vec<u8>,
}

impl Leg {
    /// The impressions it was asked for, one bit for each.
    pub fn imps(&self) -> u64 {
        self.imps
    }

    /// Its answer's body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// It is known what came of it.
    pub fn close(&mut self, heard: Heard, now_ns: u64) {
        (self.heard, self.done_ns, self.call) = (heard, now_ns, None);
    }
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
    /// What people are hashed under in its record.
    pub salt: Salt,
    /// Its deadlines.
    pub deadlines: Option<Deadlines>,
    /// Bytes of the black box that are promised to it.
    pub promised: usize,
    /// The client takes gzip.
    pub accept_gzip: bool,
    /// Its stages are timed.
    pub sampled: bool,
    /// If they are: how long those took that are over.
    pub stages: StageTimes,
    /// The trace that the request is part of.
    pub trace: Option<TraceId>,
    /// The view of the request.
    pub request: Request,
    bytes: Vec<u8>,
    body_at: usize,
    legs: Vec<Leg>,
    asked: usize,
    /// Hardly anybody healthy was asked: all are waited for.
    patient: bool,
    /// Some DSP buys what is offered, and there was time to ask it.
    pub is_wanted: bool,
    not_asked: Vec<(DspIx, Outcome, Probability)>,
    /// It is decided, and waits for markup.
    pub fetching: Option<Box<Fetching>>,
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
        self.trace = TraceId::parse(whole.head.traceparent.of(&self.bytes));
        self.asked = 0;
        (self.patient, self.is_wanted) = (false, false);
        self.not_asked.clear();
    }

    /// The request's bytes, head in front, and where its body begins.
    pub fn bytes(&self) -> (&[u8], usize) {
        (&self.bytes, self.body_at)
    }

    /// One read of what the arrival of an answer touches. `true`: it may be the last, after which all of the flight is
    /// needed.
    pub fn touch(&self) -> (usize, bool) {
        let legs = self.legs();
        let sum = legs.iter().fold(self.bytes.len(), |s, l| s ^ l.asked_ns as usize ^ l.body.len());
        (sum, legs.iter().filter(|l| l.heard == Heard::Waiting).count() <= TOGETHER)
    }

    /// One read of each cache line that deciding needs.
    pub fn touch_parts(&self) -> usize {
        let r = &self.request;
        let mut sum = r.imps.len() ^ r.texts.len() ^ r.deals.len() ^ r.id.span().len as usize;
        sum ^= r.imps.iter().fold(0, |s, x| s ^ x.exp_s as usize ^ x.whole.len as usize);
        sum ^= r.texts.iter().step_by(8).fold(0, |s, x| s ^ usize::from(x.is_some()));
        sum ^= r.sizes.first().map_or(0, |x| x.0 as usize);
        for bytes in self.legs().iter().map(|l| l.body.as_slice()) {
            sum ^= bytes.iter().step_by(LINE).fold(0, |s, b| s ^ usize::from(*b));
        }
        sum ^ usize::from(self.bytes.get(self.body_at).copied().unwrap_or(0))
    }

    /// Reads the request.
    pub fn parse(&mut self, arena: &Bump) -> Result<(), outcry::openrtb::validate::Refusal> {
        self.request.parse(&self.bytes, self.body_at, arena)
    }

    /// What the state machine is told about the auction.
    pub fn start<'a>(&'a self, snapshot: &'a Snapshot) -> Start<'a> {
        let config = snapshot.config();
        let exchange = &config.exchanges[self.exchange.0 as usize];
        let wall_ms = self.begun.unix_ms();
        Start {
            event: self.event,
            config_id: config.id,
            config_hash: config.hash,
            region: &config.region,
            salt: self.salt,
            bid_bytes: config.record.bid_bytes,
            rules: &config.auction,
            rates: &config.rates,
            exchange,
            exchange_ix: self.exchange,
            request: &self.request,
            body: &self.bytes,
            arrival_ns: self.arrival_ns,
            whole_ns: self.begun.boot_ns,
            wall_ms,
            deadline_ns: self.deadlines.map_or(self.arrival_ns, |d| d.decide_ns),
            asked_ns: self.asked_ns,
            awaited_s: match exchange.settle {
                Settle::Auction => 0,
                Settle::Notice => expires_s(wall_ms, config.notices.life_s),
            },
            trace: self.trace,
            entropy: self.entropy,
            seals: &snapshot.core.seals,
            house: &snapshot.house,
        }
    }

    /// A stage of a sampled auction is over and took so long: into the metrics, and into its record.
    pub fn staged(&mut self, stage: Stage, ns: u64, metrics: &mut CoreMetrics) {
        metrics.stage(stage, ns);
        self.stages.set(stage, ns);
    }

    /// What kind of request it is.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.request, &self.bytes)
    }

    /// A DSP is asked for these impressions; returns the index of its leg.
    pub fn ask(
        &mut self,
        dsp: DspIx,
        imps: u64,
        as_what: Admission,
        (until_ns, fair_until_ns): (u64, u64),
        now_ns: u64,
    ) -> u8 {
        if self.legs.capacity() == 0 {
            self.legs.reserve_exact(LEGS);
        }
        if self.legs.len() == self.asked {
            self.legs.push(Leg::default());
        }
        let leg = &mut self.legs[self.asked];
        *leg = Leg {
            dsp,
            imps,
            as_what,
            until_ns,
            fair_until_ns,
            asked_ns: now_ns,
            body: std::mem::take(&mut leg.body),
            ..Leg::default()
        };
        self.asked += 1;
        (self.asked - 1) as u8
    }

    /// A leg was asked by chance, with this probability: times what is known of it already.
    pub fn asked_with(&mut self, leg: u8, probability: Probability) {
        if let Some(leg) = self.leg(leg) {
            leg.asked_probability = leg.asked_probability.and(probability);
        }
    }

    /// A DSP is not asked, and why; the probability that it had if chance decided, else always.
    pub fn not_asked(&mut self, dsp: DspIx, outcome: Outcome, probability: Probability) {
        self.not_asked.push((dsp, outcome, probability));
    }

    /// A leg of this flight.
    pub fn leg(&mut self, leg: u8) -> Option<&mut Leg> {
        self.legs[..self.asked].get_mut(leg as usize)
    }

    /// The legs.
    pub fn legs(&self) -> &[Leg] {
        &self.legs[..self.asked]
    }

    /// All have been asked: are those answers to be waited for too that are not as a rule?
    pub fn asked_all(&mut self) {
        let healthy = self.legs().iter().filter(|l| l.as_what.is_awaited()).count();
        self.patient = healthy < HEALTHY_ENOUGH;
    }

    /// Does any DSP still owe an answer that is waited for?
    pub fn is_waiting(&self) -> bool {
        let awaited = |l: &Leg| l.heard == Heard::Waiting && (l.as_what.is_awaited() || self.patient);
        self.legs().iter().any(awaited)
    }

    /// The earliest deadline among the calls under way.
    pub fn next_deadline(&self) -> Option<u64> {
        self.legs().iter().filter(|l| l.call.is_some()).map(|l| l.until_ns).min()
    }

    /// A call ended: what it brought is kept, to be read with the others. `None`: nobody waited for it any more. Else, does
    /// the answer belong to another request?
    pub fn answered(
        &mut self,
        leg: u8,
        done: Done,
        view: &mut Response,
        now_ns: u64,
        buffers: &mut Buffers,
    ) -> Option<bool> {
        let l = self.legs[..self.asked].get_mut(leg as usize)?;
        l.call.take()?;
        (l.sent_ns, l.first_byte_ns) = (done.sent_ns, done.first_byte_ns);
        match done.reply {
            Reply::Failed(outcome) => {
                l.close(Heard::Failed(outcome), now_ns);
                Some(false)
            }
            Reply::Answer { status, body } => {
                l.close(Heard::Answer(status), now_ns);
                let mistaken = status == 200 && names_another(&self.request, &self.bytes, &body, view);
                buffers.put(std::mem::replace(&mut l.body, body));
                Some(mistaken)
            }
        }
    }

    /// The state machine hears of everything that happened since the request came, all answers at once: so the request and
    /// the rules are in the cache for all of them, and neither inputs nor views wait with the auction. `views` has one for
    /// each leg afterwards; `told` hears each leg's outcome and the nanoseconds it took.
    pub fn hear(
        &self,
        snapshot: &Snapshot,
        auction: &mut Auction,
        views: &mut Vec<Response>,
        mut told: impl FnMut(&Leg, Outcome, u64),
    ) {
        let start = self.start(snapshot);
        let dsp = |ix: DspIx| &snapshot.config().dsps[ix.0 as usize];
        auction.begin(&start);
        for (ix, outcome, probability) in &self.not_asked {
            auction.not_asked(*ix, &dsp(*ix).name, *outcome, *probability);
        }
        let legs = self.legs();
        for leg in legs {
            auction.ask(leg.dsp, &dsp(leg.dsp).name, leg.imps, leg.asked_ns);
        }
        if views.len() < legs.len() {
            views.resize_with(legs.len(), Response::default);
        }
        for (at, (leg, view)) in legs.iter().zip(views).enumerate() {
            let at = at as u8;
            auction.asked_with(at, leg.asked_probability);
            auction.leg_sent(at, leg.sent_ns);
            auction.leg_first_byte(at, leg.first_byte_ns);
            let body = leg.body.as_slice();
            let outcome = match leg.heard {
                Heard::Answer(200) if !body.iter().all(u8::is_ascii_whitespace) => {
                    let read = view.parse(body).map(|()| &*view).map_err(|_| ());
                    auction.leg_answered(at, dsp(leg.dsp), read, body, &start, leg.done_ns)
                }
                heard => {
                    let outcome = match heard {
                        Heard::Answer(200 | 204) => Outcome::NoBid,
                        Heard::Answer(_) => Outcome::BadStatus,
                        Heard::Failed(outcome) => outcome,
                        Heard::Waiting => Outcome::Late,
                    };
                    auction.leg_failed(at, outcome, leg.done_ns);
                    outcome
                }
            };
            told(leg, outcome, leg.done_ns.saturating_sub(leg.asked_ns));
        }
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

/// The answers as the writer of our own answer sees them.
pub struct LegAnswers<'a> {
    /// With the bytes.
    pub legs: &'a [Leg],
    /// One for each of them.
    pub views: &'a [Response],
    /// Markup that was fetched.
    pub fetched: &'a [Fetch],
}

impl Answers for LegAnswers<'_> {
    fn leg(&self, leg: u8) -> (&Response, &[u8]) {
        (&self.views[leg as usize], &self.legs[leg as usize].body)
    }

    fn markup(&self, win: usize) -> Option<&[u8]> {
        self.fetched.iter().find(|fetch| usize::from(fetch.win) == win).map(|fetch| fetch.markup.as_slice())
    }
}
