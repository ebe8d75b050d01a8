//! What the readers of a request's objects share: a cursor, the rules' faults, and the usual kinds of value.
//!
//! `null` is absence everywhere. A value of the wrong type is a fault where we decide by the field, else absence.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `parse_request`, `parse_imp`, `parse_native`.
//! Never: allocates once the vectors of the view have grown. Full: lists stop at [`TEXTS_MAX`] with a refusal.
use bumpalo::{Bump, collections::Vec as ArenaVec};

use super::{
    request::{Request, Run},
    text::Text,
    validate::{Fault, Field, Refusal, Rule},
};
use crate::{
    json::{self, Cursor, Known},
    limits::TEXTS_MAX,
    units::{Cpm, Currency, PriceError, Round},
};

/// A refusal before it knows its indexes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) rule: Rule,
    pub(super) at: u32,
}

impl From<json::Error> for Stop {
    fn from(e: json::Error) -> Stop {
        Stop { rule: Rule { field: Field::Request, fault: Fault::NotJson(e.why) }, at: e.at }
    }
}

pub(super) type Step<T = ()> = Result<T, Stop>;

/// A walk over the members of one object.
pub(super) struct Walk {
    object: Field,
    first: bool,
    seen: u64,
}

pub(super) struct Reader<'a, 'r> {
    pub(super) c: Cursor<'a>,
    pub(super) out: &'r mut Request,
    /// What is needed only while reading; gone when the request was read.
    pub(super) arena: &'r Bump,
    /// Hashes of the impressions' ids, to see that they differ.
    pub(super) imp_hashes: ArenaVec<'r, u64>,
    /// Ids of a native request's assets, likewise.
    pub(super) asset_ids: ArenaVec<'r, i64>,
    /// The impression, and the element of its list, that are being read; -1 outside.
    pub(super) index: [i32; 2],
}

impl<'a, 'r> Reader<'a, 'r> {
    /// A reader of `c` into `out`.
    pub(super) fn new(c: Cursor<'a>, out: &'r mut Request, arena: &'r Bump) -> Reader<'a, 'r> {
        let (imp_hashes, asset_ids) = (ArenaVec::new_in(arena), ArenaVec::new_in(arena));
        Reader { c, out, arena, imp_hashes, asset_ids, index: [-1, -1] }
    }

    /// Stops here.
    #[cold]
    pub(super) fn stop<T>(&self, field: Field, fault: Fault) -> Step<T> {
        Err(Stop { rule: Rule { field, fault }, at: self.c.at() as u32 })
    }

    pub(super) fn refusal(&self, stop: Stop) -> Refusal {
        Refusal { rule: stop.rule, at: stop.at, index: self.index }
    }

    /// What remains where neither the wanted type nor anything else that was looked for stands: `null` is absence.
    #[cold]
    fn absent(&mut self, field: Field) -> Step {
        if self.c.peek() != b'n' {
            // Rather "not JSON" than "wrong type" where both are true.
            self.c.skip()?;
            return self.stop(field, Fault::WrongType);
        }
        Ok(self.c.skip()?)
    }

    /// Enters an object; `None` for `null`.
    #[inline]
    pub(super) fn object(&mut self, field: Field) -> Step<Option<Walk>> {
        if self.c.peek() == b'{' {
            self.c.enter()?;
            return Ok(Some(Walk { object: field, first: true, seen: 0 }));
        }
        self.absent(field)?;
        Ok(None)
    }

    /// Enters an array; `false` for `null`.
    #[inline]
    pub(super) fn array(&mut self, field: Field) -> Step<bool> {
        if self.c.peek() == b'[' {
            self.c.enter()?;
            return Ok(true);
        }
        self.absent(field)?;
        Ok(false)
    }

    /// The next member whose key is known, and where it begins; the others are passed.
    #[inline(always)]
    pub(super) fn next<K: Known>(&mut self, walk: &mut Walk) -> Step<Option<(K, usize)>> {
        while let Some(key) = self.c.key(&mut walk.first)? {
            let Some(known) = K::of(&key) else {
                self.c.skip()?;
                continue;
            };
            if walk.seen & known.bit() != 0 {
                return self.stop(walk.object, Fault::DuplicateKey);
            }
            walk.seen |= known.bit();
            return Ok(Some((known, key.at as usize)));
        }
        Ok(None)
    }

    /// An object that only must be one.
    #[inline]
    pub(super) fn any_object(&mut self, field: Field) -> Step {
        if self.c.peek() == b'{' {
            return Ok(self.c.skip()?);
        }
        self.absent(field)
    }

    /// A string that is needed.
    #[inline(never)]
    pub(super) fn id(&mut self, field: Field) -> Step<Text> {
        if self.c.peek() == b'"' {
            return Ok(self.c.string()?);
        }
        self.absent(field)?;
        Ok(Text::NONE)
    }

    /// A whole number from 0 on by which we decide; what is too large for 32 bits is the largest of them.
    pub(super) fn count(&mut self, field: Field) -> Step<Option<u32>> {
        let Some(n) = self.whole(field)? else { return Ok(None) };
        if n < 0 { self.stop(field, Fault::Negative) } else { Ok(Some(u32::try_from(n).unwrap_or(u32::MAX))) }
    }

    /// A whole number of either sign by which we decide.
    pub(super) fn whole(&mut self, field: Field) -> Step<Option<i64>> {
        if !matches!(self.c.peek(), b'0'..=b'9' | b'-') {
            self.absent(field)?;
            return Ok(None);
        }
        match json::integer(self.c.number()?) {
            Some(n) => Ok(Some(n)),
            None => self.stop(field, Fault::WrongType),
        }
    }

    /// A number that nobody here needs, but that must not be below zero.
    pub(super) fn not_negative(&mut self, field: Field) -> Step {
        if let Some(text) = self.c.digits()?
            && text.first() == Some(&b'-')
            && text.iter().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| matches!(b, b'1'..=b'9'))
        {
            return self.stop(field, Fault::Negative);
        }
        Ok(())
    }

    /// A number that is 1 for yes; anything else is no.
    pub(super) fn flag(&mut self) -> Step<bool> {
        Ok(self.number()? == 1)
    }

    /// A number from 0 on; anything else is 0.
    pub(super) fn number(&mut self) -> Step<u32> {
        let n = self.c.digits()?.and_then(json::integer).unwrap_or(0);
        Ok(u32::try_from(n.max(0)).unwrap_or(u32::MAX))
    }

    /// A floor: CPM, rounded up so that nothing below it passes; 0 when absent.
    pub(super) fn floor(&mut self, field: Field) -> Step<Cpm> {
        if !matches!(self.c.peek(), b'0'..=b'9' | b'-') {
            self.absent(field)?;
            return Ok(Cpm::ZERO);
        }
        let fault = match Cpm::parse(self.c.number()?, Round::Up) {
            Ok(cpm) => return Ok(cpm),
            Err(PriceError::Negative) => Fault::Negative,
            Err(PriceError::TooLarge) => Fault::TooLarge,
            Err(PriceError::NotANumber) => Fault::WrongType,
        };
        self.stop(field, fault)
    }

    /// A currency code; USD when absent or empty (sections 3.2.4 and 3.2.12).
    pub(super) fn currency(&mut self, field: Field) -> Step<Currency> {
        let text = self.id(field)?;
        if text.is_empty() {
            return Ok(Currency::USD);
        }
        match Currency::parse(text.raw(self.c.buf())) {
            Some(code) => Ok(code),
            None => self.stop(field, Fault::NotACurrency),
        }
    }

    /// The strings of a list; what is no string is passed.
    pub(super) fn texts(&mut self, field: Field) -> Step<Run> {
        let from = self.out.texts.len();
        if self.array(field)? {
            let mut first = true;
            while self.c.element(&mut first)? {
                let text = self.c.text()?;
                if text.is_some() {
                    if self.out.texts.len() >= TEXTS_MAX {
                        return self.stop(field, Fault::TooMany);
                    }
                    self.out.texts.push(text);
                }
            }
        }
        Ok(run(from, self.out.texts.len()))
    }

    /// The strings of a list that nothing is refused for: another thing in its place is passed, and so is what is beyond the
    /// limit.
    pub(super) fn some_texts(&mut self) -> Step<Run> {
        let from = self.out.texts.len();
        if self.c.peek() != b'[' {
            self.c.skip()?;
            return Ok(Run::default());
        }
        self.c.enter()?;
        let mut first = true;
        while self.c.element(&mut first)? {
            let text = self.c.text()?;
            if text.is_some() && self.out.texts.len() < TEXTS_MAX {
                self.out.texts.push(text);
            }
        }
        Ok(run(from, self.out.texts.len()))
    }

    /// The numbers of a list; what is no whole number from 0 on is passed.
    pub(super) fn numbers(&mut self, field: Field) -> Step<Run> {
        let from = self.out.numbers.len();
        if self.array(field)? {
            let mut first = true;
            while self.c.element(&mut first)? {
                let number = self.c.digits()?.and_then(json::integer);
                if let Some(n) = number.and_then(|n| u32::try_from(n).ok()) {
                    if self.out.numbers.len() >= TEXTS_MAX {
                        return self.stop(field, Fault::TooMany);
                    }
                    self.out.numbers.push(n);
                }
            }
        }
        Ok(run(from, self.out.numbers.len()))
    }

    /// How many elements a list has; 0 when absent.
    pub(super) fn elements(&mut self, field: Field) -> Step<usize> {
        let mut n = 0;
        if self.array(field)? {
            let mut first = true;
            while self.c.element(&mut first)? {
                self.c.skip()?;
                n += 1;
            }
        }
        Ok(n)
    }
}

/// The elements pushed since the vector had `from`. All vectors end at [`TEXTS_MAX`], so 16 bits hold both.
pub(super) fn run(from: usize, len: usize) -> Run {
    Run { at: from as u16, len: (len - from) as u16 }
}
