//! What things are measured in: money, time, identity. Every rounding of money happens here.
//! Owns: nothing. Runs on: every thread. Never: uses a float, a clock, or the order of arrival.
//!
//! One micro-unit of CPM is one nano-unit for one impression, so a price in CPM micros *is* the charge of
//! one impression in nanos and no division ever happens between the two.
mod hash;
mod probability;

pub(crate) use hash::{fold_on, same, short_word};
pub use hash::{hash_bytes, mix};
pub use probability::Probability;

use std::fmt;

/// Which way an inexact amount goes. The exchange's rule: bid prices down, converted floors up, charges
/// down, reservations up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// Toward zero.
    Down,
    /// Away from zero.
    Up,
}

/// A price of a thousand impressions in micro-units of its currency, which is the price of one impression
/// in nano-units. Never negative once it passed [`Cpm::parse`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Cpm(pub i64);

/// Why a price could not be read (OpenRTB 2.6 section 4.2.3 asks for decimal arithmetic).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PriceError {
    /// Not a JSON number.
    #[error("not a number")]
    NotANumber,
    /// Below zero.
    #[error("negative")]
    Negative,
    /// Above what is believed: [`Cpm::MAX`], [`Money::MAX`].
    #[error("more than is believed")]
    TooLarge,
}

impl Cpm {
    /// Nothing.
    pub const ZERO: Cpm = Cpm(0);
    /// One unit of CPM.
    pub const ONE: Cpm = Cpm(1_000_000);
    /// The largest price that is believed: a million units of CPM, a thousand for one impression. Far above
    /// any real price; sums of thousands of them stay far inside 64 bits.
    pub const MAX: Cpm = Cpm(1_000_000 * 1_000_000);

    /// Reads the text of a JSON number exactly; digits beyond the sixth decimal round as told.
    pub fn parse(text: &[u8], round: Round) -> Result<Cpm, PriceError> {
        // Far below `Cpm::MAX` with any four digits before the point: nothing left to be checked.
        if let Some(micros) = plain_decimal(text) {
            return Ok(Cpm(micros));
        }
        parse_decimal(text, 6, Cpm::MAX.0, round).map(Cpm)
    }

    /// Appends it as [`Display`](fmt::Display) writes it, without a formatter's detours.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut digits = [0; DECIMAL_BYTES];
        out.extend_from_slice(decimal(&mut digits, self.0, 6));
    }
}

impl fmt::Display for Cpm {
    /// Units with up to six decimals, no trailing zeros: `1.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, 6)
    }
}

/// Longest text of [`decimal`]: sign, point, and the digits of 2^63.
const DECIMAL_BYTES: usize = 1 + 1 + 19;

/// A count of 10^-`places` as a decimal without trailing zeros, written into the end of `out`. `places` is at most 9.
fn decimal(out: &mut [u8; DECIMAL_BYTES], n: i64, places: u32) -> &[u8] {
    let mut at = out.len();
    let mut put = |b: u8| {
        at -= 1;
        out[at] = b;
    };
    let one = 10u64.pow(places);
    let (mut whole, mut part) = (n.unsigned_abs() / one, n.unsigned_abs() % one);
    // Behind the point only what has something but zeros after it.
    if part > 0 {
        let mut left = places;
        while part % 10 == 0 {
            (part, left) = (part / 10, left - 1);
        }
        for _ in 0..left {
            put(b'0' + (part % 10) as u8);
            part /= 10;
        }
        put(b'.');
    }
    loop {
        put(b'0' + (whole % 10) as u8);
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    if n < 0 {
        put(b'-');
    }
    &out[at..]
}

fn write_decimal(f: &mut fmt::Formatter<'_>, n: i64, places: u32) -> fmt::Result {
    f.write_str(std::str::from_utf8(decimal(&mut [0; DECIMAL_BYTES], n, places)).unwrap_or(""))
}

/// Micro-units of the commonest prices: one to four digits, then perhaps a point and one to six more. `None` is for
/// whatever else, numbers and nonsense alike.
fn plain_decimal(text: &[u8]) -> Option<i64> {
    const SCALE: [i64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let mut value = 0;
    let mut take = |digits: &[u8], most: usize| {
        let mut n = 0;
        while let Some(digit) = digits.get(n).map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9 && n <= most) {
            value = value * 10 + i64::from(digit);
            n += 1;
        }
        (1..=most).contains(&n).then_some(n)
    };
    let whole = take(text, 4)?;
    let behind = match text.get(whole..)? {
        [] => 0,
        [b'.', rest @ ..] => take(rest, 6).filter(|n| *n == rest.len())?,
        _ => return None,
    };
    Some(value * SCALE[behind])
}

/// Reads a JSON number as an integer count of 10^-`places`, exactly, up to `max`. Linear in the length of the
/// text, whatever its exponent.
fn parse_decimal(text: &[u8], places: i64, max: i64, round: Round) -> Result<i64, PriceError> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let exp_at = rest.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(rest.len());
    let (mantissa, exp) = (&rest[..exp_at], rest.get(exp_at + 1..));
    let dot = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
    let (int, frac) = (&mantissa[..dot], mantissa.get(dot + 1..));
    let digits = |s: &[u8]| !s.is_empty() && s.iter().all(u8::is_ascii_digit);
    if !digits(int) || frac.is_some_and(|f| !digits(f)) {
        return Err(PriceError::NotANumber);
    }
    let exponent = match exp {
        None => 0,
        Some(e) => {
            let (sign, e) = match e {
                [b'-', e @ ..] => (-1, e),
                [b'+', e @ ..] => (1, e),
                e => (1, e),
            };
            if !digits(e) {
                return Err(PriceError::NotANumber);
            }
            // Far beyond any length of text, so that it saturates without changing the value.
            sign * e.iter().fold(0i64, |n, b| (n * 10 + i64::from(b - b'0')).min(1 << 40))
        }
    };
    // The value is all digits read as one integer, times 10^-shift.
    let frac = frac.unwrap_or(&[]);
    let all = int.iter().chain(frac).map(|b| i64::from(b - b'0'));
    let kept = int.len() as i64 + exponent + places; // how many leading digits count
    let (mut value, mut rest_nonzero, mut seen) = (0i64, false, 0i64);
    for d in all {
        if seen < kept {
            value = value * 10 + d;
            if value > max {
                return if negative { Err(PriceError::Negative) } else { Err(PriceError::TooLarge) };
            }
        } else {
            rest_nonzero |= d != 0;
        }
        seen += 1;
    }
    while seen < kept && value > 0 {
        value *= 10;
        if value > max {
            return if negative { Err(PriceError::Negative) } else { Err(PriceError::TooLarge) };
        }
        seen += 1;
    }
    if negative && (value > 0 || rest_nonzero) {
        return Err(PriceError::Negative);
    }
    if rest_nonzero && round == Round::Up {
        value += 1;
    }
    if value > max { Err(PriceError::TooLarge) } else { Ok(value) }
}

/// An ISO-4217 code, upper case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Currency(pub [u8; 3]);

impl Currency {
    /// What OpenRTB means where it says nothing (section 3.2.4 `bidfloorcur`, 4.2.1 `cur`).
    pub const USD: Currency = Currency(*b"USD");

    /// Three ASCII letters, either case; anything else is none.
    pub fn parse(text: &[u8]) -> Option<Currency> {
        let code: [u8; 3] = text.try_into().ok()?;
        code.iter().all(u8::is_ascii_alphabetic).then(|| Currency(code.map(|b| b.to_ascii_uppercase())))
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl Default for Currency {
    fn default() -> Self {
        Currency::USD
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Units of the accounting currency for one unit of another, in billionths: 1.08 is 1_080_000_000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate(pub u64);

impl Rate {
    /// A currency against itself.
    pub const ONE: Rate = Rate(1_000_000_000);
    /// The smallest and the largest rate that is believed: a billionth and a million.
    pub const RANGE: std::ops::RangeInclusive<u64> = 1..=1_000_000 * 1_000_000_000;

    /// Reads a decimal such as `1.0837`.
    pub fn parse(text: &str) -> Option<Rate> {
        let nanos = parse_decimal(text.as_bytes(), 9, *Rate::RANGE.end() as i64, Round::Down).ok()?;
        (nanos > 0).then_some(Rate(nanos as u64))
    }

    /// An amount of the other currency in the accounting currency. Saturates at [`Cpm::MAX`].
    pub fn to_accounting(self, amount: Cpm, round: Round) -> Cpm {
        scale(amount, self.0, Rate::ONE.0, round)
    }

    /// Money of the other currency in the accounting currency. Saturates, far above [`Money::MAX`].
    pub fn money_to_accounting(self, amount: Money, round: Round) -> Money {
        Money(ratio(amount.0, self.0, Rate::ONE.0, round, i64::MAX))
    }

    /// An amount of the accounting currency in the other currency. Saturates at [`Cpm::MAX`].
    pub fn from_accounting(self, amount: Cpm, round: Round) -> Cpm {
        scale(amount, Rate::ONE.0, self.0, round)
    }
}

fn scale(amount: Cpm, num: u64, den: u64, round: Round) -> Cpm {
    if num == den {
        return amount;
    }
    Cpm(ratio(amount.0, num, den, round, Cpm::MAX.0))
}

fn ratio(amount: i64, num: u64, den: u64, round: Round, max: i64) -> i64 {
    let product = i128::from(amount) * i128::from(num);
    let den = i128::from(den.max(1));
    let q = product / den;
    let q = if round == Round::Up && product % den != 0 { q + 1 } else { q };
    q.min(i128::from(max)) as i64
}

/// A multiplier of impressions (`imp.qty.multiplier`, section 3.2.31) in millionths; 1.0 is the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Multiplier(pub u64);

impl Multiplier {
    /// One impression.
    pub const ONE: Multiplier = Multiplier(1_000_000);
    /// A million viewers of one screen is the most that is believed.
    pub const MAX: Multiplier = Multiplier(1_000_000 * 1_000_000);

    /// Reads the text of a JSON number; zero, negative and absurd values are an error.
    pub fn parse(text: &[u8]) -> Result<Multiplier, PriceError> {
        match parse_decimal(text, 6, Multiplier::MAX.0 as i64, Round::Down)? {
            0 => Err(PriceError::NotANumber),
            n => Ok(Multiplier(n as u64)),
        }
    }
}

impl Default for Multiplier {
    fn default() -> Self {
        Multiplier::ONE
    }
}

/// An amount of money in nano-units of the accounting currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Money(pub i64);

impl Money {
    /// The largest amount that is believed: a billion units. Sums of nine of them stay inside 64 bits.
    pub const MAX: Money = Money(1_000_000_000 * 1_000_000_000);

    /// Reads the text of a JSON number exactly; digits beyond the ninth decimal round as told.
    pub fn parse(text: &[u8], round: Round) -> Result<Money, PriceError> {
        parse_decimal(text, 9, Money::MAX.0, round).map(Money)
    }

    /// What one impression (times `qty`) costs at `price` in the accounting currency.
    pub fn of(price: Cpm, qty: Multiplier, round: Round) -> Money {
        let product = i128::from(price.0) * i128::from(qty.0);
        let one = i128::from(Multiplier::ONE.0);
        let q = product / one + i128::from(round == Round::Up && product % one != 0);
        // At most 10^12 * 10^6 = 10^18, inside i64.
        Money(q as i64)
    }

    /// The sum, if it is one of this type's.
    #[inline]
    pub fn plus(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money)
    }

    /// The difference, if it is one of this type's; it may be negative.
    #[inline]
    pub fn minus(self, other: Money) -> Option<Money> {
        self.0.checked_sub(other.0).map(Money)
    }

    /// `part` of `whole` of it, rounded down. Zero where there is no whole; never more than all of it.
    pub fn share(self, part: u64, whole: u64) -> Money {
        let q = i128::from(self.0) * i128::from(part.min(whole)) / i128::from(whole.max(1));
        Money(q as i64)
    }
}

impl fmt::Display for Money {
    /// Units with up to nine decimals, no trailing zeros: `0.00125`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, 9)
    }
}

/// One reading of the clock, taken once per loop turn and passed down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Nanoseconds of CLOCK_BOOTTIME: never jumps, counts through suspend, zero at boot.
    pub boot_ns: u64,
    /// What to add to get nanoseconds since 1970.
    pub wall_offset_ns: i64,
}

impl Now {
    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        ((self.boot_ns as i64).saturating_add(self.wall_offset_ns) / 1_000_000).max(0) as u64
    }
}

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;

/// A DSP's place in the running configuration. Dense and per snapshot: it never leaves the process; names do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Default)]
pub struct DspIx(pub u16);

/// An exchange's (the sender of requests) place in the running configuration; never leaves the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Default)]
pub struct ExchangeIx(pub u16);

/// Names one auction, for ever and everywhere; our `bidid`. Sequence numbers are not reused within an epoch,
/// epochs rise at each start, nodes differ between machines: so no two auctions share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Default)]
pub struct EventId {
    /// The machine: configured, else generated once and kept on disk.
    pub node: u32,
    /// The start of the process on that machine, from a file that only grows.
    pub epoch: u32,
    /// The bidder core, counted from zero.
    pub core: u16,
    /// The auction on that core, counted from one.
    pub seq: u64,
}

impl EventId {
    /// Length of [`EventId::text`].
    pub const TEXT_LEN: usize = 8 + 8 + 4 + 16;

    /// 36 lower-case hexadecimal digits: node, epoch, core, sequence.
    pub fn text(&self) -> [u8; EventId::TEXT_LEN] {
        let mut out = [0; EventId::TEXT_LEN];
        let mut at = 0;
        for (value, digits) in
            [(u64::from(self.node), 8), (u64::from(self.epoch), 8), (u64::from(self.core), 4), (self.seq, 16)]
        {
            for i in (0..digits).rev() {
                out[at] = b"0123456789abcdef"[(value >> (4 * i)) as usize & 15];
                at += 1;
            }
        }
        out
    }

    /// Reads [`EventId::text`] back.
    pub fn parse(text: &[u8]) -> Option<EventId> {
        if text.len() != EventId::TEXT_LEN || !text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let part = |from: usize, to: usize| {
            text[from..to]
                .iter()
                .fold(0u64, |n, &b| n << 4 | u64::from(if b.is_ascii_digit() { b - b'0' } else { b - b'a' + 10 }))
        };
        Some(EventId {
            node: part(0, 8) as u32,
            epoch: part(8, 16) as u32,
            core: part(16, 20) as u16,
            seq: part(20, 36),
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_are_read_exactly() {
        let rows: &[(&str, Round, Result<i64, PriceError>)] = &[
            ("0", Round::Down, Ok(0)),
            ("-0", Round::Down, Ok(0)),
            ("-0.000", Round::Up, Ok(0)),
            ("1", Round::Down, Ok(1_000_000)),
            ("0.1", Round::Down, Ok(100_000)),
            ("1.2345678", Round::Down, Ok(1_234_567)),
            ("1.2345678", Round::Up, Ok(1_234_568)),
            ("1.2345670", Round::Up, Ok(1_234_567)),
            ("1.5e-3", Round::Down, Ok(1_500)),
            ("15E2", Round::Down, Ok(1_500_000_000)),
            ("1e-999999999999", Round::Up, Ok(1)),
            ("0e999999999999", Round::Up, Ok(0)),
            ("1e999", Round::Down, Err(PriceError::TooLarge)),
            ("12345678901234567890", Round::Down, Err(PriceError::TooLarge)),
            ("0.00000000000000000000000001", Round::Down, Ok(0)),
            ("1000000", Round::Down, Ok(Cpm::MAX.0)),
            ("1000000.0000001", Round::Down, Ok(Cpm::MAX.0)),
            ("1000000.0000001", Round::Up, Err(PriceError::TooLarge)),
            ("-0.01", Round::Down, Err(PriceError::Negative)),
            ("-1e999", Round::Down, Err(PriceError::Negative)),
            ("NaN", Round::Down, Err(PriceError::NotANumber)),
            ("", Round::Down, Err(PriceError::NotANumber)),
            ("1.", Round::Down, Err(PriceError::NotANumber)),
            (".5", Round::Down, Err(PriceError::NotANumber)),
            ("1e", Round::Down, Err(PriceError::NotANumber)),
            ("+1", Round::Down, Err(PriceError::NotANumber)),
        ];
        for (text, round, want) in rows {
            assert_eq!(Cpm::parse(text.as_bytes(), *round).map(|c| c.0), *want, "{text} {round:?}");
        }
    }

    /// As long as a body may be: a million and more zeros, and an exponent that takes them back.
    #[test]
    fn an_exponent_is_as_far_as_the_text_is_long() {
        let zeros = "0".repeat(1_100_000);
        for (text, want) in [(format!("0.{zeros}125e1100000"), 125_000), (format!("125{zeros}e-1100003"), 125_000)] {
            assert_eq!(Cpm::parse(text.as_bytes(), Round::Down), Ok(Cpm(want)));
            assert_eq!(Cpm::parse(text.as_bytes(), Round::Up), Ok(Cpm(want)));
        }
    }

    #[test]
    fn prices_print_shortest() {
        for (n, want) in [(0, "0"), (1, "0.000001"), (1_250_000, "1.25"), (-500_000, "-0.5"), (3_000_000, "3")] {
            assert_eq!(Cpm(n).to_string(), want);
        }
        for (n, want) in [(0, "0"), (1, "0.000000001"), (1_250_000, "0.00125"), (-1_500_000_000, "-1.5")] {
            assert_eq!(Money(n).to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_a_price_agree(n in 0..=Cpm::MAX.0) {
            prop_assert_eq!(Cpm::parse(Cpm(n).to_string().as_bytes(), Round::Down), Ok(Cpm(n)));
        }

        #[test]
        fn conversion_never_favours_the_wrong_side(n in 0..1_000_000_000_000i64, rate in 1_000_000u64..100_000_000_000) {
            let rate = Rate(rate);
            let (down, up) = (rate.to_accounting(Cpm(n), Round::Down), rate.to_accounting(Cpm(n), Round::Up));
            prop_assert!(down <= up && up.0 - down.0 <= 1);
            // What was rounded down and comes back rounded down never exceeds what it was.
            if up < Cpm::MAX {
                prop_assert!(rate.from_accounting(down, Round::Down).0 <= n);
                prop_assert!(rate.from_accounting(up, Round::Up).0 >= n);
            }
        }

        #[test]
        fn charges_round_by_less_than_a_nano(price in 0..Cpm::MAX.0, qty in 1u64..Multiplier::MAX.0) {
            let (p, q) = (Cpm(price), Multiplier(qty));
            let (down, up) = (Money::of(p, q, Round::Down), Money::of(p, q, Round::Up));
            prop_assert!(up.0 - down.0 <= 1 && down.0 >= 0);
        }

        #[test]
        fn event_ids_survive_text(node: u32, epoch: u32, core: u16, seq: u64) {
            let id = EventId { node, epoch, core, seq };
            prop_assert_eq!(EventId::parse(&id.text()), Some(id));
        }
    }
}
