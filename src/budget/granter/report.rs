//! What a holder says of its lines: returned, held, closed, and cuts.
//! Owns: which statements are believed. Called by: `ask`. Never: grants.
use super::{End, Granter, HolderId, Line, LineId, check::Violation};
use crate::{
    budget::messages::{AskLine, Cut},
    limits,
    units::Money,
};

impl Granter {
    /// Takes over what is said of one line. What contradicts the books changes nothing and stops the account.
    pub(super) fn report(&mut self, holder: HolderId, said: &AskLine) {
        let id = LineId { key: said.line, holder };
        let Some(line) = self.books.slot(id).map(|slot| slot.line) else {
            let had = [said.granted, said.returned, said.held, said.closed.unwrap_or_default()];
            // Of a window in the archive everything has been said; this comes late.
            if had.iter().any(|m| *m != Money(0)) && !self.is_archived(id.key) {
                self.violated(Violation::Unknown(id));
            }
            return;
        };
        let changed = match believe(id, line, said) {
            Ok(to) => self.books.change(id, to),
            Err(violation) => Err(violation),
        };
        if let Err(violation) = changed {
            self.violated(violation);
        }
    }

    /// Takes over what had been spent as of these frames.
    pub(super) fn cut(&mut self, holder: HolderId, cut: &Cut) {
        for (key, charged, freed) in &cut.spent {
            let id = LineId { key: *key, holder };
            let Some(line) = self.books.slot(id).map(|slot| slot.line) else {
                if (*charged, *freed) != (Money(0), Money(0)) && !self.is_archived(*key) {
                    self.violated(Violation::Unknown(id));
                }
                continue;
            };
            let rises = *charged >= line.charged && *freed >= line.freed && freed <= charged;
            // More than is out now may have been spent then: it was freed since, and given back.
            let changed = if rises && charged.0 - freed.0 <= line.granted.0 {
                self.books.change(id, Line { charged: *charged, freed: *freed, ..line })
            } else {
                Err(Violation::Cut { id, charged: *charged, freed: *freed })
            };
            if let Err(violation) = changed {
                self.violated(violation);
            }
        }
        let known = self.books.holders.get(&holder).map_or(&[][..], |h| &h.row.frames);
        let frames = &cut.frames[..cut.frames.len().min(limits::CORES_MAX)];
        if frames == known {
            return;
        }
        let rises = known.is_empty() || known.len() == frames.len() && known.iter().zip(frames).all(|(k, f)| f >= k);
        if !rises {
            self.violated(Violation::Frames(holder));
        }
        // Taken over all the same: a start after a crash then counts some frames twice rather than not at all.
        self.books.holder_mut(holder).row.frames = frames.to_vec();
    }
}

/// The line as its holder says it is, if that can be.
fn believe(id: LineId, line: Line, said: &AskLine) -> Result<Line, Violation> {
    let AskLine { granted, returned, held, closed, .. } = *said;
    if granted != line.granted {
        return Err(Violation::Granted { id, said: granted, known: line.granted });
    }
    if returned < line.returned || returned > line.granted || (line.end != End::Open && returned != line.returned) {
        return Err(Violation::Returned { id, said: returned, known: line.returned, granted: line.granted });
    }
    let mut to = Line { returned, held, ..line };
    let out = to.out();
    if held.0 < 0 || held > out || (held.0 > 0 && (closed.is_some() || line.end != End::Open)) {
        return Err(Violation::Held { id, held, out });
    }
    if let Some(spent) = closed {
        if spent != out {
            return Err(Violation::Closed { id, spent, out });
        }
        to.end = End::Closed;
    }
    Ok(to)
}
