//! Durations as the server's settings have them.

use std::time::Duration;

use crate::error::{Error, Result};

/// The units of time, each in milliseconds. The server reads a plain number as milliseconds.
const UNITS: [(&str, f64); 7] = [
    ("us", 0.001),
    ("ms", 1.0),
    ("s", 1_000.0),
    ("min", 60_000.0),
    ("h", 3_600_000.0),
    ("d", 86_400_000.0),
    ("", 1.0),
];

/// The duration that a setting of the server in milliseconds has.
pub(super) fn duration(name: &str, text: &str) -> Result<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, unit)| unit);
    let milliseconds =
        number.trim().parse::<f64>().ok().zip(unit).map(|(number, unit)| number * unit);
    match milliseconds.filter(|milliseconds| (0.0..=f64::from(i32::MAX)).contains(milliseconds)) {
        Some(milliseconds) => Ok(Duration::from_secs_f64(milliseconds / 1_000.0)),
        None => Err(Error::configuration(format!(
            "{name} must be a number with one of the units us, ms, s, min, h and d, at most \
             2147483647 ms"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_servers_units() {
        for (text, milliseconds) in [
            ("0", 0),
            ("250", 250),
            (" 5s ", 5_000),
            ("5 s", 5_000),
            ("1.5min", 90_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("1e3", 1_000),
            ("2147483647", 2_147_483_647),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(duration("statement_timeout", text), Ok(expected), "{text}");
        }
        assert_eq!(duration("statement_timeout", "900us"), Ok(Duration::from_micros(900)));
        for text in ["", "s", "-1", "5S", "5 weeks", "1 2", "NaN", "inf", "2147483648"] {
            let error = duration("statement_timeout", text).unwrap_err().to_string();
            assert!(error.contains("statement_timeout must be a number"), "{text}: {error}");
        }
    }
}
