//! The request that one DSP sees: the original bytes with edits spliced in.
//!
//! What we do not know survives byte for byte, white space and all. Edited are `tmax` (the time that DSP really has),
//! `wseat`, `cur`, `user.buyeruid`, the supply chain, and `imp` where not all of it is offered; the map of other
//! DSPs' buyeruids never leaves.
//!
//! The edits of one request are planned as a short sorted list of stretches, then written in one pass. No two of
//! them touch: each object loses at most one member, so removing it and its comma cannot meet a neighbour's comma.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `bidder/flight`. Never: allocates, but for `out` to grow.
use super::{
    request::{Request, SchainPlace},
    text::{Span, Text, escape},
    validate::write_number,
};
use crate::{
    config::resolved::{BuyerUid, SchainNode},
    units::Currency,
};

/// What one DSP is to see.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'a> {
    /// The time it has, milliseconds (section 3.2.1).
    pub tmax_ms: u32,
    /// Its name in the map of buyeruids.
    pub dsp_name: &'a str,
    /// Seats it may bid for; empty: any. Of a request's own `wseat` only these remain; where the request blocks seats
    /// (`bseat`) they are not told, since only one of the two may be given.
    pub wseat: &'a [String],
    /// Currencies it may bid in; empty: the request's stay.
    pub cur: &'a [Currency],
    /// Which of the user's ids it may see.
    pub buyeruid: BuyerUid,
    /// Our node of the supply chain, as [`prepare_schain_node`] made it; `None`: no chain is passed on.
    pub schain_node: Option<&'a [u8]>,
    /// One bit for each impression that is offered, the first lowest.
    pub imps: u64,
}

/// Why there is nothing to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpliceError {
    /// No impression is offered.
    #[error("no impression is offered")]
    NoImps,
    /// None of the DSP's seats is among those the request allows.
    #[error("no seat in common")]
    NoSeats,
}

/// Our node of a supply chain as JSON (section 3.2.26): `hp` is always 1 in version 1.0.
pub fn prepare_schain_node(node: &SchainNode) -> Vec<u8> {
    let mut out = b"{\"asi\":".to_vec();
    write_string(&node.asi, &mut out);
    out.extend_from_slice(b",\"sid\":");
    write_string(&node.sid, &mut out);
    out.extend_from_slice(b",\"hp\":1");
    for (key, value) in [(&b",\"name\":"[..], &node.name), (b",\"domain\":", &node.domain)] {
        if let Some(value) = value {
            out.extend_from_slice(key);
            write_string(value, &mut out);
        }
    }
    out.push(b'}');
    out
}

/// Appends the request `req`, which was read from `body`, as one DSP is to see it.
///
/// # Errors
/// Nothing was appended, and nothing can be asked.
pub fn splice(req: &Request, body: &[u8], edits: &Edits, out: &mut Vec<u8>) -> Result<(), SpliceError> {
    let mut plan = Plan { list: [Edit::default(); EDITS_MAX], len: 0 };
    let writer = Writer { req, body, edits };
    writer.plan(&mut plan)?;
    let edits = plan.list.get_mut(..plan.len).unwrap_or_default();
    // What is put in front of a member that is itself replaced comes first.
    edits.sort_unstable_by_key(|e| (e.span.at, e.span.len));
    let mut at = req.whole.at as usize;
    for edit in edits {
        out.extend_from_slice(body.get(at..edit.span.at as usize).unwrap_or(&[]));
        writer.write(edit.what, out);
        at = edit.span.end();
    }
    out.extend_from_slice(body.get(at..req.whole.end()).unwrap_or(&[]));
    Ok(())
}

/// Top, tmax, wseat, cur, imp; the chain and two spare ones; buyeruid, two maps of buyeruids.
const EDITS_MAX: usize = 5 + 3 + 3;

#[derive(Clone, Copy, Default)]
struct Edit {
    span: Span,
    what: What,
}

/// What takes the place of a stretch.
#[derive(Clone, Copy, Default)]
enum What {
    #[default]
    Nothing,
    /// Members that the request lacks, in front of its first.
    Top(Lacking),
    Tmax,
    Wseat,
    Cur,
    Imps,
    /// Our node behind the others.
    Node {
        first: bool,
    },
    /// Member `schain` with our node alone.
    Schain {
        comma: bool,
    },
    /// An object around that.
    SchainObject,
    Buyeruid {
        id: Text,
        comma: bool,
    },
    BuyeruidObject(Text),
}

#[derive(Clone, Copy, Default)]
struct Lacking {
    tmax: bool,
    wseat: bool,
    cur: bool,
    source: bool,
    user: Option<Text>,
}

struct Plan {
    list: [Edit; EDITS_MAX],
    len: usize,
}

impl Plan {
    fn push(&mut self, span: Span, what: What) {
        debug_assert!(self.len < EDITS_MAX);
        if let Some(place) = self.list.get_mut(self.len) {
            *place = Edit { span, what };
            self.len += 1;
        }
    }

    /// The member goes, if it is there, and a comma with it.
    fn remove(&mut self, body: &[u8], member: Span) {
        if member.len > 0 {
            self.push(with_comma(body, member), What::Nothing);
        }
    }
}

struct Writer<'a> {
    req: &'a Request,
    body: &'a [u8],
    edits: &'a Edits<'a>,
}

impl Writer<'_> {
    fn plan(&self, plan: &mut Plan) -> Result<(), SpliceError> {
        let (anchors, edits) = (&self.req.anchors, self.edits);
        let mut lacking = Lacking::default();
        match anchors.tmax.len {
            0 => lacking.tmax = true,
            _ => plan.push(anchors.tmax, What::Tmax),
        }
        if self.tells_seats()? {
            match anchors.wseat.len {
                0 => lacking.wseat = true,
                _ => plan.push(anchors.wseat, What::Wseat),
            }
        }
        if !edits.cur.is_empty() {
            match anchors.cur.len {
                0 => lacking.cur = true,
                _ => plan.push(anchors.cur, What::Cur),
            }
        }
        match self.kept() {
            0 => return Err(SpliceError::NoImps),
            kept if kept == all(self.req.imps.len()) => {}
            _ => plan.push(anchors.imp, What::Imps),
        }
        self.plan_schain(plan, &mut lacking);
        self.plan_user(plan, &mut lacking);
        if lacking.tmax || lacking.wseat || lacking.cur || lacking.source || lacking.user.is_some() {
            plan.push(inside(self.req.whole), What::Top(lacking));
        }
        Ok(())
    }

    /// Is `wseat` to be written?
    fn tells_seats(&self) -> Result<bool, SpliceError> {
        if self.edits.wseat.is_empty() {
            return Ok(false);
        }
        if self.req.wseat.len == 0 {
            return Ok(self.req.bseat.len == 0);
        }
        if self.common_seats().next().is_none() {
            return Err(SpliceError::NoSeats);
        }
        Ok(true)
    }

    /// The request's seats that are the DSP's too.
    fn common_seats(&self) -> impl Iterator<Item = Text> {
        let seats = self.req.wseat.of(&self.req.texts).iter().copied();
        seats.filter(|seat| self.edits.wseat.iter().any(|own| seat.is(self.body, own.as_bytes())))
    }

    fn kept(&self) -> u64 {
        self.edits.imps & all(self.req.imps.len())
    }

    /// 3.2.25: who passes a chain on appends its node and leaves `complete`; who has none to append to begins one
    /// that is not complete; who does not append passes none on.
    fn plan_schain(&self, plan: &mut Plan, lacking: &mut Lacking) {
        let anchors = &self.req.anchors;
        for spare in anchors.schain_spare {
            plan.remove(self.body, spare);
        }
        if self.edits.schain_node.is_none() {
            return plan.remove(self.body, anchors.schain);
        }
        if anchors.schain_nodes.len > 0 {
            let end = Span { at: anchors.schain_nodes.end() as u32 - 1, len: 0 };
            return plan.push(end, What::Node { first: is_empty(self.body, anchors.schain_nodes) });
        }
        // A chain without nodes cannot be appended to, so it is none.
        if anchors.schain_place != SchainPlace::Absent {
            return plan.push(anchors.schain, What::Schain { comma: false });
        }
        match self.body.get(anchors.source.at as usize) {
            _ if anchors.source.len == 0 => lacking.source = true,
            Some(b'{') => {
                let comma = !is_empty(self.body, anchors.source);
                plan.push(inside(anchors.source), What::Schain { comma });
            }
            _ => plan.push(anchors.source, What::SchainObject),
        }
    }

    /// 3.2.20: `buyeruid` is the id that the one DSP knows the user by, nobody else's.
    fn plan_user(&self, plan: &mut Plan, lacking: &mut Lacking) {
        let (req, anchors) = (self.req, &self.req.anchors);
        plan.remove(self.body, anchors.buyeruids);
        plan.remove(self.body, anchors.buyeruids_ext);
        let name = self.edits.dsp_name.as_bytes();
        let Some(&(_, id)) = req.buyeruids.iter().find(|(dsp, _)| dsp.is(self.body, name)) else {
            if self.edits.buyeruid == BuyerUid::Map || req.buyeruid.is_empty() {
                plan.remove(self.body, anchors.buyeruid);
            }
            return;
        };
        if anchors.buyeruid.len > 0 {
            return plan.push(anchors.buyeruid, What::Buyeruid { id, comma: false });
        }
        match self.body.get(anchors.user.at as usize) {
            _ if anchors.user.len == 0 => lacking.user = Some(id),
            Some(b'{') => {
                let comma = !is_empty(self.body, anchors.user);
                plan.push(inside(anchors.user), What::Buyeruid { id, comma });
            }
            _ => plan.push(anchors.user, What::BuyeruidObject(id)),
        }
    }

    fn write(&self, what: What, out: &mut Vec<u8>) {
        match what {
            What::Nothing => {}
            What::Top(lacking) => self.write_top(lacking, out),
            What::Tmax => {
                out.extend_from_slice(b"\"tmax\":");
                write_number(u64::from(self.edits.tmax_ms), out);
            }
            What::Wseat => self.write_wseat(out),
            What::Cur => {
                out.extend_from_slice(b"\"cur\":[");
                list(self.edits.cur, out, |cur, out| {
                    out.push(b'"');
                    out.extend_from_slice(&cur.0);
                    out.push(b'"');
                });
                out.push(b']');
            }
            What::Imps => {
                let kept = self.kept();
                out.push(b'[');
                let imps = self.req.imps.iter().enumerate().filter(|(i, _)| kept >> i & 1 == 1);
                list(imps, out, |(_, imp), out| out.extend_from_slice(imp.whole.of(self.body)));
                out.push(b']');
            }
            What::Node { first } => {
                if !first {
                    out.push(b',');
                }
                out.extend_from_slice(self.edits.schain_node.unwrap_or(b"{}"));
            }
            What::Schain { comma } => {
                self.write_schain(out);
                if comma {
                    out.push(b',');
                }
            }
            What::SchainObject => {
                out.push(b'{');
                self.write_schain(out);
                out.push(b'}');
            }
            What::Buyeruid { id, comma } => {
                self.write_buyeruid(id, out);
                if comma {
                    out.push(b',');
                }
            }
            What::BuyeruidObject(id) => {
                out.push(b'{');
                self.write_buyeruid(id, out);
                out.push(b'}');
            }
        }
    }

    /// The request has members already (`id` and `imp` are required), so a comma follows each.
    fn write_top(&self, lacking: Lacking, out: &mut Vec<u8>) {
        if lacking.tmax {
            self.write(What::Tmax, out);
            out.push(b',');
        }
        if lacking.wseat {
            self.write(What::Wseat, out);
            out.push(b',');
        }
        if lacking.cur {
            self.write(What::Cur, out);
            out.push(b',');
        }
        if lacking.source {
            out.extend_from_slice(b"\"source\":");
            self.write(What::SchainObject, out);
            out.push(b',');
        }
        if let Some(id) = lacking.user {
            out.extend_from_slice(b"\"user\":");
            self.write(What::BuyeruidObject(id), out);
            out.push(b',');
        }
    }

    fn write_wseat(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"wseat\":[");
        if self.req.wseat.len == 0 {
            list(self.edits.wseat, out, |seat, out| write_string(seat, out));
        } else {
            list(self.common_seats(), out, |seat, out| self.write_text(seat, out));
        }
        out.push(b']');
    }

    fn write_schain(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"schain\":{\"complete\":0,\"ver\":\"1.0\",\"nodes\":[");
        out.extend_from_slice(self.edits.schain_node.unwrap_or(b"{}"));
        out.extend_from_slice(b"]}");
    }

    fn write_buyeruid(&self, id: Text, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"buyeruid\":");
        self.write_text(id, out);
    }

    /// A string of the request as it was written there.
    fn write_text(&self, text: Text, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(text.raw(self.body));
        out.push(b'"');
    }
}

/// The bits of `n` impressions.
fn all(n: usize) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// The place behind an opening bracket.
fn inside(span: Span) -> Span {
    Span { at: span.at + 1, len: 0 }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\n' | b'\r' | b'\t')
}

/// Has this object or array nothing in it?
fn is_empty(body: &[u8], span: Span) -> bool {
    let inner = span.of(body).get(1..).unwrap_or(&[]);
    inner.iter().find(|b| !is_space(**b)).is_none_or(|b| matches!(b, b'}' | b']'))
}

/// A member and the comma behind it; the last member and the comma before it.
fn with_comma(body: &[u8], member: Span) -> Span {
    let behind = body.get(member.end()..).unwrap_or(&[]);
    if let Some(i) = behind.iter().position(|b| !is_space(*b))
        && behind.get(i) == Some(&b',')
    {
        return Span { len: member.len + i as u32 + 1, ..member };
    }
    let before = body.get(..member.at as usize).unwrap_or(&[]);
    match before.iter().rposition(|b| !is_space(*b)) {
        Some(i) if before.get(i) == Some(&b',') => Span { at: i as u32, len: member.end() as u32 - i as u32 },
        _ => member,
    }
}

fn list<T>(all: impl IntoIterator<Item = T>, out: &mut Vec<u8>, mut one: impl FnMut(T, &mut Vec<u8>)) {
    for (i, item) in all.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        one(item, out);
    }
}

/// A string of ours as JSON.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text.as_bytes(), out);
    out.push(b'"');
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
