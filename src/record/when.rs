//! Moments as people write them: RFC 3339, and days.
//! Owns: nothing. Called by: whoever shows records, `outcry audit`. Never: knows a time zone but those that are written out.

const DAY_MS: u64 = 86_400_000;

/// Milliseconds since 1970 as `2026-01-31T12:00:00.000Z`; past the year 9999 as a number.
pub fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Past the year 9999.
    if days >= 2_932_897 {
        return format!("{unix_ms} ms");
    }
    // Years that begin in March have their leap day at the end: eras of 400 of them are all alike.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A moment (`2026-01-31T12:00:00Z`, seconds and their decimals may be missing, a space may stand for the T) or a day in UTC
/// (`2026-01-31`), as milliseconds since 1970: where it begins and where it ends. A moment ends where it begins. `None`: it is
/// neither, or before 1970.
pub fn parse(text: &str) -> Option<(u64, u64)> {
    let (date, time) = match text.get(10..11) {
        None => (text, None),
        Some("T" | "t" | " ") => (text.get(..10)?, Some(text.get(11..)?)),
        Some(_) => return None,
    };
    let day = days(date)?.checked_mul(DAY_MS)?;
    let Some(time) = time else { return Some((day, day + DAY_MS)) };
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let behind_utc_ms = match zone {
        "Z" | "z" => 0,
        _ => {
            let (sign, of) = zone.split_at(1);
            let minutes = minutes(of)? as i64;
            minutes * if sign == "-" { 60_000 } else { -60_000 }
        }
    };
    let (minute, seconds) = (clock.get(..5)?, clock.get(5..)?);
    let (second, fraction) = match seconds.strip_prefix(':') {
        None if seconds.is_empty() => (0, ""),
        None => return None,
        Some(s) => {
            let (second, fraction) = s.split_once('.').unwrap_or((s, ""));
            (number(second, 2)?, fraction)
        }
    };
    // A leap second is the next minute's first.
    if second > 60 || !fraction.bytes().all(|b| b.is_ascii_digit()) || seconds.ends_with('.') {
        return None;
    }
    let ms = fraction.bytes().chain([b'0'; 3]).take(3).fold(0, |n, b| n * 10 + u64::from(b - b'0'));
    let of_day = minutes(minute)? * 60_000 + second * 1000 + ms;
    let at = (day + of_day).checked_add_signed(behind_utc_ms)?;
    Some((at, at))
}

/// `HH:MM` as minutes.
fn minutes(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (number(hour, 2)?, number(minute, 2)?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

/// Days from 1970 to `YYYY-MM-DD`.
fn days(date: &str) -> Option<u64> {
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let of_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || day == 0 || day > of_month {
        return None;
    }
    // As in `utc`: years that begin in March.
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(year * 365 + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day - 1 - 719_468)
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{parse, utc};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(ms in 0u64..253_402_300_800_000) {
            let text = utc(ms);
            prop_assert_eq!(parse(&text), Some((ms, ms)), "{}", text);
            let day = ms / 86_400_000 * 86_400_000;
            prop_assert_eq!(parse(&text[..10]), Some((day, day + 86_400_000)), "{}", text);
        }

        #[test]
        fn nothing_panics(text in any::<String>(), almost in "[0-9TZ:.+ -]{0,30}") {
            parse(&text);
            parse(&almost);
        }
    }

    #[test]
    fn moments_are_read_as_rfc_3339_has_them() {
        let noon = 1_769_860_800_000;
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31t12:00:00.000z",
            "2026-01-31 12:00Z",
            "2026-01-31T14:30:00+02:30",
            "2026-01-30T23:00:00-13:00",
            "2026-01-31T11:59:60Z",
            "2026-01-31T12:00:00.0009Z",
        ] {
            assert_eq!(parse(text), Some((noon, noon)), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-1-31",
            "2026-02-29",
            "2026-13-01",
            "1969-12-31",
            "2026-01-31T",
            "2026-01-31T12:00:00",
            "2026-01-31T24:00Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+2",
            "2026-01-31X12:00:00Z",
            "2026-01-31T12:00:00Zx",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_where_calendars_have_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "253402300800000 ms"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }
}
