//! Requests and answers kept whole: how an auction's travel from a bidder core to the thread that writes them, and the lines
//! that they become.
//! Owns: nothing of its own but buffers. Runs on: each bidder core writes frames, the thread of the raw stream reads them.
//! Never: an auction in parts; a line with a line break in it.
//!
//! A line is one JSON object, as any reader of JSON lines has it:
//! ```text
//! {"event":"<36 digits>","id":"<of the request>","wall_ms":1769860800000,"exchange":"default","what":"request","body":{...}}
//! {..., "what":"answer","dsp":"dsp-1","status":200,"body":{...}}
//! {..., "what":"sent","status":200,"body":{...}}
//! ```
//! `event` names the auction in the journal, bids and URLs; `wall_ms` is when its request was whole, in milliseconds since
//! 1970. An answer without a body has `"body":null`; one that is no JSON also `"unreadable":<bytes>`, and is not kept. A DSP
//! that did not answer has no line: why not is in the auction's record.
use super::personal::{self, Personal};
use crate::{
    json::{Cursor, Error},
    units::EventId,
};
use std::io::Write as _;

/// Bytes in front of a frame that say how long it is, themselves among them.
pub const LEN_BYTES: usize = 4;
/// Behind them: node, epoch, core, sequence, time, length of the exchange's name.
const HEAD_BYTES: usize = 4 + 4 + 2 + 8 + 8 + 1;
/// In front of each message: what it is, its status, the lengths of the DSP's name and of the body.
const MESSAGE_BYTES: usize = 1 + 2 + 1 + 4;

/// Which auction it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// Its name.
    pub event: EventId,
    /// Its request was whole, milliseconds since 1970.
    pub wall_ms: u64,
    /// The exchange that sent it: a name of the configuration.
    pub exchange: &'a [u8],
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum What {
    /// What an exchange sent us.
    Request,
    /// What a DSP answered.
    Answer,
    /// What we answered the exchange.
    Sent,
}

impl What {
    fn of(code: u8) -> Option<What> {
        [What::Request, What::Answer, What::Sent].into_iter().find(|w| *w as u8 == code)
    }

    fn name(self) -> &'static str {
        match self {
            What::Request => "request",
            What::Answer => "answer",
            What::Sent => "sent",
        }
    }
}

/// One message of an auction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// What it is.
    pub what: What,
    /// The DSP that answered: a name of the configuration. Empty for the others.
    pub dsp: &'a [u8],
    /// HTTP's status; 0 for a request.
    pub status: u16,
    /// Its body, unpacked.
    pub body: &'a [u8],
}

/// A name as a frame carries it: names of a configuration are shorter than this by far.
fn short(name: &[u8]) -> &[u8] {
    name.get(..255).unwrap_or(name)
}

/// Bytes of the frame of an auction.
pub fn frame_bytes<'a>(head: &Head<'_>, messages: impl Iterator<Item = Message<'a>>) -> usize {
    let bodies: usize = messages.map(|m| MESSAGE_BYTES + short(m.dsp).len() + m.body.len()).sum();
    LEN_BYTES + HEAD_BYTES + short(head.exchange).len() + bodies
}

/// Hands out the frame of an auction piece by piece; `bytes` is what [`frame_bytes`] says. It never leaves the process, so
/// it has no version.
pub fn write_frame<'a>(
    bytes: usize,
    head: &Head<'_>,
    messages: impl Iterator<Item = Message<'a>>,
    mut put: impl FnMut(&[u8]),
) {
    let (event, exchange) = (head.event, short(head.exchange));
    put(&(bytes as u32).to_le_bytes());
    put(&event.node.to_le_bytes());
    put(&event.epoch.to_le_bytes());
    put(&event.core.to_le_bytes());
    put(&event.seq.to_le_bytes());
    put(&head.wall_ms.to_le_bytes());
    put(&[exchange.len() as u8]);
    put(exchange);
    for m in messages {
        let dsp = short(m.dsp);
        let mut fixed = [0; MESSAGE_BYTES];
        fixed[0] = m.what as u8;
        fixed[1..3].copy_from_slice(&m.status.to_le_bytes());
        fixed[3] = dsp.len() as u8;
        fixed[4..].copy_from_slice(&(m.body.len() as u32).to_le_bytes());
        put(&fixed);
        put(dsp);
        put(m.body);
    }
}

/// Reads a frame without its [`LEN_BYTES`]. `None`: it is none.
pub fn read_frame(frame: &[u8]) -> Option<(Head<'_>, Messages<'_>)> {
    let mut rest = frame;
    let event = EventId {
        node: u32::from_le_bytes(take(&mut rest)?),
        epoch: u32::from_le_bytes(take(&mut rest)?),
        core: u16::from_le_bytes(take(&mut rest)?),
        seq: u64::from_le_bytes(take(&mut rest)?),
    };
    let wall_ms = u64::from_le_bytes(take(&mut rest)?);
    let [len] = take(&mut rest)?;
    let exchange = rest.split_off(..usize::from(len))?;
    Some((Head { event, wall_ms, exchange }, Messages { rest }))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

/// The messages of a frame; ends at what is none.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let [what] = take(&mut self.rest)?;
        let status = u16::from_le_bytes(take(&mut self.rest)?);
        let [dsp_len] = take(&mut self.rest)?;
        let body_len = u32::from_le_bytes(take(&mut self.rest)?);
        let dsp = self.rest.split_off(..usize::from(dsp_len))?;
        let body = self.rest.split_off(..body_len as usize)?;
        Some(Message { what: What::of(what)?, dsp, status, body })
    }
}

/// Writes the lines of auctions. One for many.
#[derive(Debug)]
pub struct Lines {
    keeps_personal_data: bool,
    personal: Personal,
}

impl Lines {
    /// With `keeps_personal_data` bodies stay as they came.
    pub fn new(keeps_personal_data: bool) -> Lines {
        Lines { keeps_personal_data, personal: Personal::default() }
    }

    /// Appends a line for each message of an auction. Returns how many had a body that is not JSON.
    pub fn write(&mut self, head: &Head<'_>, messages: Messages<'_>, out: &mut Vec<u8>) -> u64 {
        let request = messages.clone().find(|m| m.what == What::Request).map_or(&b""[..], |m| m.body);
        if !self.keeps_personal_data {
            self.personal.learn(request);
        }
        let id = id_of(request).unwrap_or(b"null");
        let mut unreadable = 0;
        for m in messages {
            // Writing into memory does not fail.
            let _ = write!(out, "{{\"event\":\"{}\",\"id\":", head.event);
            out.extend_from_slice(id);
            let _ = write!(out, ",\"wall_ms\":{},\"exchange\":\"", head.wall_ms);
            out.extend_from_slice(head.exchange);
            let _ = write!(out, "\",\"what\":\"{}\"", m.what.name());
            if m.what == What::Answer {
                out.extend_from_slice(b",\"dsp\":\"");
                out.extend_from_slice(m.dsp);
                out.push(b'"');
            }
            if m.what != What::Request {
                let _ = write!(out, ",\"status\":{}", m.status);
            }
            out.extend_from_slice(b",\"body\":");
            let blank = m.body.iter().all(u8::is_ascii_whitespace);
            if blank {
                out.extend_from_slice(b"null");
            } else if self.body(m.body, out).is_err() {
                let _ = write!(out, "null,\"unreadable\":{}", m.body.len());
                unreadable += 1;
            }
            out.extend_from_slice(b"}\n");
        }
        unreadable
    }

    fn body(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match self.keeps_personal_data {
            true => personal::compact(body, out),
            false => self.personal.replace(body, out),
        }
    }
}

/// A request's `id`, quotes and all. There is one at most: with two it would have been refused.
fn id_of(request: &[u8]) -> Option<&[u8]> {
    let mut c = Cursor::new(request, 0).ok()?;
    if c.peek() != b'{' {
        return None;
    }
    c.enter().ok()?;
    let (mut first, mut id) = (true, None);
    while let Some(key) = c.key(&mut first).ok()? {
        let named = key.text.is(request, b"id") && matches!(c.peek(), b'"' | b'-' | b'0'..=b'9');
        let value = c.skip_span().ok()?;
        if named {
            id = Some(value.of(request));
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: EventId = EventId { node: 1, epoch: 2, core: 3, seq: 4 };

    fn framed(head: &Head<'_>, messages: &[Message<'_>]) -> Vec<u8> {
        let bytes = frame_bytes(head, messages.iter().copied());
        let mut out = Vec::new();
        write_frame(bytes, head, messages.iter().copied(), |piece| out.extend_from_slice(piece));
        assert_eq!((out.len(), out[..LEN_BYTES].to_vec()), (bytes, (bytes as u32).to_le_bytes().to_vec()));
        out.split_off(LEN_BYTES)
    }

    const REQUEST: &str = "{ \"imp\": [],\n \"id\": \"r-1\", \"user\": {\"id\": \"somebody-else\"} }";

    fn messages() -> [Message<'static>; 5] {
        let answer =
            |dsp, status, body: &'static str| Message { what: What::Answer, dsp, status, body: body.as_bytes() };
        [
            Message { what: What::Request, dsp: b"", status: 0, body: REQUEST.as_bytes() },
            answer(b"a", 200, "{\"id\": \"r-1\",\r\n\"x\":\"for Somebody-Else\"}"),
            answer(b"b", 204, " "),
            answer(b"c", 200, "{\"id\":"),
            Message { what: What::Sent, dsp: b"", status: 200, body: b"{}" },
        ]
    }

    #[test]
    fn what_goes_in_comes_out() {
        let head = Head { event: EVENT, wall_ms: 5, exchange: b"default" };
        let frame = framed(&head, &messages());
        let (read, all) = read_frame(&frame).expect("a frame");
        assert_eq!((read, all.collect::<Vec<_>>()), (head, messages().to_vec()));
        // Cut anywhere it is shorter, never wrong.
        for at in 0..frame.len() {
            let Some((_, all)) = read_frame(&frame[..at]) else { continue };
            assert!(all.zip(messages()).all(|(got, want)| got == want), "cut at {at}");
        }
    }

    #[test]
    fn a_line_is_one_object_on_one_line() {
        let head = Head { event: EVENT, wall_ms: 5, exchange: b"default" };
        let frame = framed(&head, &messages());
        let (_, all) = read_frame(&frame).expect("a frame");
        let front =
            r#"{"event":"000000010000000200030000000000000004","id":"r-1","wall_ms":5,"exchange":"default","what":"#;
        for (keeps, user, text) in [(false, "***", "for *************"), (true, "somebody-else", "for Somebody-Else")] {
            let mut out = Vec::new();
            assert_eq!(Lines::new(keeps).write(&head, all.clone(), &mut out), 1);
            let want = [
                format!(r#""request","body":{{"imp":[],"id":"r-1","user":{{"id":"{user}"}}}}}}"#),
                format!(r#""answer","dsp":"a","status":200,"body":{{"id":"r-1","x":"{text}"}}}}"#),
                r#""answer","dsp":"b","status":204,"body":null}"#.to_owned(),
                r#""answer","dsp":"c","status":200,"body":null,"unreadable":6}"#.to_owned(),
                r#""sent","status":200,"body":{}}"#.to_owned(),
            ];
            let got = String::from_utf8(out).expect("text");
            assert_eq!(got.lines().count(), want.len(), "{got}");
            for (got, want) in got.lines().zip(want) {
                assert_eq!(got, format!("{front}{want}"));
                serde_json::from_str::<serde_json::Value>(got).expect("JSON");
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_none() {
        assert!(read_frame(b"").is_none() && read_frame(&[1; HEAD_BYTES]).is_none());
    }
}
