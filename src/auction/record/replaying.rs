//! Deciding a recorded auction again, and saying where that comes out otherwise.
//! Owns: nothing. Runs on: readers of journals. Called by: whoever audits. Never: needs the configuration or the program of
//! the day: all that the decision was made of is in the record.
use super::Record;
use crate::{
    auction::{
        clearing::{Decision, Win, clear},
        funds::{Account, Answer, Funds, Place, Ticket},
    },
    openrtb::codes::{Loss, Nbr},
    units::Money,
};
use bumpalo::Bump;
use std::fmt;

/// The funds' answers as they were written down.
struct Told<'a> {
    answers: &'a [Answer],
    asked: usize,
}

impl Told<'_> {
    fn next(&mut self) -> Result<(), Answer> {
        self.asked += 1;
        match self.answers.get(self.asked - 1).copied().unwrap_or(Answer::NoMoney) {
            Answer::Yes => Ok(()),
            no => Err(no),
        }
    }
}

impl Funds for Told<'_> {
    fn can_pay(&mut self, _: &Account<'_>, _: Money) -> Result<Place, Answer> {
        self.next().map(|()| Place::NOBODY)
    }
    fn reserve(&mut self, _: &Account<'_>, _: Place, _: Money) -> Result<Ticket, Answer> {
        self.next().map(|()| Ticket::default())
    }
    fn release(&mut self, _: Ticket, _: Money) {}
    fn charge(&mut self, _: Ticket, _: Money, _: Money) {}
}

/// Decides a recorded auction again, from its inputs and the funds' answers alone. Equal to the recorded decision, or
/// the record is not of this program.
pub fn replay(record: &Record) -> Decision {
    decide(record).0
}

fn decide(record: &Record) -> (Decision, usize) {
    let (mut told, mut out) = (Told { answers: &record.funds, asked: 0 }, Decision::default());
    clear(&record.inputs, &mut told, &Bump::new(), &mut out);
    for win in &mut out.wins {
        // Whose budget it is was the funds' to say, not the decision's.
        if let Some(recorded) = record.decision.wins.iter().find(|w| w.input == win.input) {
            (win.account, win.period) = (recorded.account, recorded.period);
        }
    }
    (out, told.asked)
}

/// Where a record and its replay come out otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    /// Who won an impression, or on which terms.
    Win {
        /// Index of the impression.
        imp: u8,
        /// What the record says.
        recorded: Option<Win>,
        /// What is decided of its inputs.
        decided: Option<Win>,
    },
    /// Why a bid lost.
    Loss {
        /// Index into [`crate::auction::input::Inputs::bids`].
        bid: u16,
        /// What the record says; `None`: nothing.
        recorded: Option<Loss>,
        /// What is decided of its inputs.
        decided: Option<Loss>,
    },
    /// Why there is no bid.
    Nbr {
        /// What the record says.
        recorded: Option<Nbr>,
        /// What is decided of its inputs.
        decided: Option<Nbr>,
    },
    /// How often the funds were asked.
    Funds {
        /// Answers in the record.
        recorded: usize,
        /// Questions of the replay.
        decided: usize,
    },
    /// The same winners, who reserved in another order or stand in the record twice.
    Order,
}

impl Record {
    /// Where the recorded decision is not the one that its inputs give; empty: nowhere.
    pub fn differences(&self) -> Vec<Difference> {
        let (decided, asked) = decide(self);
        let (r, d) = (&self.decision, &decided);
        let mut found = Vec::new();
        if r.nbr != d.nbr {
            found.push(Difference::Nbr { recorded: r.nbr, decided: d.nbr });
        }
        for imp in 0..=u8::MAX {
            let win = |wins: &[Win]| wins.iter().find(|w| w.imp == imp).copied();
            let (recorded, decided) = (win(&r.wins), win(&d.wins));
            if recorded != decided {
                found.push(Difference::Win { imp, recorded, decided });
            }
        }
        for bid in 0..r.losses.len().max(d.losses.len()) {
            let (recorded, decided) = (r.losses.get(bid).copied(), d.losses.get(bid).copied());
            if recorded != decided {
                found.push(Difference::Loss { bid: bid as u16, recorded, decided });
            }
        }
        if self.funds.len() != asked {
            found.push(Difference::Funds { recorded: self.funds.len(), decided: asked });
        }
        if found.is_empty() && r.wins != d.wins {
            found.push(Difference::Order);
        }
        found
    }
}

impl fmt::Display for Difference {
    /// One line for a person; indexes count from zero, as in the record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Win { imp, recorded, decided } => {
                write!(f, "imp {imp}: ")?;
                win(f, *recorded)?;
                f.write_str(" recorded, ")?;
                win(f, *decided)?;
                f.write_str(" decided")
            }
            Difference::Loss { bid, recorded, decided } => {
                let code = |loss: &Option<Loss>| loss.map_or("none".to_owned(), |l| (l as u16).to_string());
                write!(f, "bid {bid}: loss {} recorded, {} decided", code(recorded), code(decided))
            }
            Difference::Nbr { recorded, decided } => {
                let code = |nbr: &Option<Nbr>| nbr.map_or("none".to_owned(), |n| (n as u16).to_string());
                write!(f, "nbr {} recorded, {} decided", code(recorded), code(decided))
            }
            Difference::Funds { recorded, decided } => {
                write!(f, "funds: {recorded} answers recorded, {decided} needed")
            }
            Difference::Order => f.write_str("the winners reserved in another order"),
        }
    }
}

fn win(f: &mut fmt::Formatter<'_>, win: Option<Win>) -> fmt::Result {
    match win {
        None => f.write_str("no winner"),
        Some(w) => write!(
            f,
            "bid {} at price {} (clearing {}, minimum to win {}, reserved {}, charge {})",
            w.input, w.price, w.clearing, w.min_to_win, w.reserved.0, w.charge.0
        ),
    }
}
