//! Sizes, times, durations and foreign text as words.

use jiff::Timestamp;
use std::{borrow::Cow, fmt::Write};

const SECONDS_PER_MINUTE: i64 = 60;
const SECONDS_PER_HOUR: i64 = 60 * SECONDS_PER_MINUTE;
const SECONDS_PER_DAY: i64 = 24 * SECONDS_PER_HOUR;

/// Clocks of two machines are hardly ever closer than this; a time so little ahead of ours is now.
const CLOCK_DIFFERENCE_SECONDS: i64 = 2;

/// Bytes for people, in binary units: `512 B`, `4.1 MiB`, `61 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Precision lost beyond 2^53 is far below one digit shown.
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be printed as 1024 belongs to the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// A time as its distance from now: `3 s ago`, `in 5 d`.
#[must_use]
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(time.as_second());
    if seconds < -CLOCK_DIFFERENCE_SECONDS {
        format!("in {}", span(seconds.saturating_neg()))
    } else {
        format!("{} ago", span(seconds.max(0)))
    }
}

/// A time: relative for people, RFC 3339 with milliseconds where everything is shown in full.
#[must_use]
pub fn time(time: Timestamp, now: Timestamp, wide: bool) -> String {
    if wide { rfc3339(time) } else { ago(time, now) }
}

/// RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Whole seconds in the largest unit that fits: `59 s`, `4 min`, `2 h`, `3 d`.
fn span(seconds: i64) -> String {
    if seconds < SECONDS_PER_MINUTE {
        format!("{seconds} s")
    } else if seconds < SECONDS_PER_HOUR {
        format!("{} min", seconds / SECONDS_PER_MINUTE)
    } else if seconds < SECONDS_PER_DAY {
        format!("{} h", seconds / SECONDS_PER_HOUR)
    } else {
        format!("{} d", seconds / SECONDS_PER_DAY)
    }
}

/// How long something took or takes: `3 ms`, `0.4 s`, `12 s`, `1 min 12 s`, `3 h 4 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 0.0995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    // Saturates at the ends of i64, which no pass reaches.
    let whole = seconds.round() as i64;
    if whole < SECONDS_PER_MINUTE {
        format!("{whole} s")
    } else if whole < SECONDS_PER_HOUR {
        two_units(whole / SECONDS_PER_MINUTE, "min", whole % SECONDS_PER_MINUTE, "s")
    } else {
        two_units(whole / SECONDS_PER_HOUR, "h", whole % SECONDS_PER_HOUR / SECONDS_PER_MINUTE, "min")
    }
}

/// The second unit is left out where there is none of it.
fn two_units(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// How far a transfer is, in whole percent. 100 is left to what has been verified: bytes that have merely arrived
/// are 99 % at most.
#[must_use]
pub fn percent_arrived(done: u64, total: u64) -> u64 {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX).min(99)
}

/// A count with its noun: `1 artifact`, `2 artifacts`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Text that came from elsewhere, with control characters spelled out, so that it cannot move the cursor, and on
/// one line.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.chars().any(hidden) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => plain.push(' '),
            c if hidden(c) => write!(plain, "{}", c.escape_unicode()).expect("a String takes all text"),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_never_show_a_thousand_of_a_unit() {
        for (bytes, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10 * 1024 - 1, "10 KiB"),
            (64 << 20, "64 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), words, "{bytes}");
        }
    }

    #[test]
    fn times_are_relative_to_now_in_both_directions() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        for (time, words) in [
            ("2026-11-20T12:00:01Z", "0 s ago"),
            ("2026-11-20T11:59:57Z", "3 s ago"),
            ("2026-11-20T11:56:00Z", "4 min ago"),
            ("2026-11-20T09:59:00Z", "2 h ago"),
            ("2026-11-17T12:00:00Z", "3 d ago"),
            ("2026-11-25T12:00:00Z", "in 5 d"),
        ] {
            assert_eq!(ago(time.parse().unwrap(), now), words);
        }
        assert_eq!(rfc3339(now), "2026-11-20T12:00:00.000Z");
    }

    #[test]
    fn durations_carry_into_the_next_unit() {
        for (seconds, words) in [
            (0.0034, "3 ms"),
            (0.42, "0.4 s"),
            (9.96, "10 s"),
            (59.7, "1 min"),
            (72.0, "1 min 12 s"),
            (11_040.0, "3 h 4 min"),
            (f64::NAN, "?"),
            (-1.0, "?"),
        ] {
            assert_eq!(duration(seconds), words);
        }
    }

    #[test]
    fn bytes_that_have_merely_arrived_are_never_100_percent() {
        assert_eq!(percent_arrived(0, 0), 0);
        assert_eq!(percent_arrived(7, 10), 70);
        assert_eq!(percent_arrived(10, 10), 99);
        assert_eq!(percent_arrived(u64::MAX, 1), 99);
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(printable("sled-a"), "sled-a");
        assert_eq!(printable("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\u{d} c");
        assert_eq!(printable("x\u{202e}y"), "x\\u{202e}y");
    }
}
