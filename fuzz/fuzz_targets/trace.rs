//! A parsed trace is ordered by time and has the values of its lines. The error of a refused trace
//! names one of its lines.

#![no_main]

#[path = "../../examples/tour/trace.rs"]
#[allow(dead_code, reason = "only the parser is fuzzed")]
mod trace;

use arbitrary::{Arbitrary, Unstructured};
use chrono::{DateTime, Utc};
use libfuzzer_sys::fuzz_target;

/// The result type of the tour, which the parser belongs to.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A trace without mistakes.
#[derive(Arbitrary)]
struct Trace {
    /// Sort keys of the three columns among others.
    order: [u8; 3],
    style: Style,
    requests: Vec<Request>,
}

#[derive(Arbitrary)]
struct Style {
    has_carriage_returns: bool,
    is_quoted: bool,
    is_padded: bool,
    has_empty_lines: bool,
    has_last_line_end: bool,
}

#[derive(Arbitrary)]
struct Request {
    /// Seconds since 1970.
    at: u32,
    /// The seven digits of the fraction.
    fraction: u32,
    input_tokens: u32,
    output_tokens: u32,
}

impl Trace {
    fn text(&self) -> String {
        let Style {
            has_carriage_returns,
            is_quoted,
            is_padded,
            has_empty_lines,
            has_last_line_end,
        } = self.style;
        let field = |text: &str| {
            let text = if is_quoted { format!("\"{text}\"") } else { text.to_owned() };
            if is_padded && !is_quoted { format!(" {text}\t") } else { text }
        };
        let line = |values: [&str; 3]| {
            let mut columns: Vec<_> = self.order.into_iter().zip(values).collect();
            columns.push((128, "other"));
            columns.sort_by_key(|(place, _)| *place);
            columns.into_iter().map(|(_, value)| field(value)).collect::<Vec<_>>().join(",")
        };
        let mut lines = vec![line(["TIMESTAMP", "ContextTokens", "GeneratedTokens"])];
        lines.extend(self.requests.iter().map(|request| {
            line([
                &request.timestamp(),
                &request.input_tokens.to_string(),
                &request.output_tokens.to_string(),
            ])
        }));
        let end = if has_carriage_returns { "\r\n" } else { "\n" };
        let end = if has_empty_lines { end.repeat(2) } else { end.to_owned() };
        lines.join(&end) + if has_last_line_end { &end } else { "" }
    }

    fn sorted(&self) -> Vec<(u32, u32)> {
        let mut requests: Vec<_> = self.requests.iter().collect();
        requests.sort_by_key(|request| request.instant());
        requests.into_iter().map(|of| (of.input_tokens, of.output_tokens)).collect()
    }
}

impl Request {
    fn instant(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.at.into(), self.fraction % 10_000_000 * 100).unwrap()
    }

    fn timestamp(&self) -> String {
        let seconds = self.instant().format("%Y-%m-%d %H:%M:%S");
        format!("{seconds}.{:07}", self.fraction % 10_000_000)
    }
}

fn read(bytes: &[u8]) -> Result<Vec<(u32, u32)>> {
    let requests = trace::parse("trace", bytes)?;
    assert!(!requests.is_empty() && requests.iter().enumerate().all(|(at, of)| of.number == at));
    Ok(requests.iter().map(|of| (of.input_tokens, of.output_tokens)).collect())
}

fuzz_target!(|data: &[u8]| {
    let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
    match read(data) {
        Ok(requests) => {
            assert!(requests.len() <= data.split(|c| matches!(c, b'\r' | b'\n')).count())
        }
        Err(error) => {
            let error = error.to_string();
            let (line, reason) = error.strip_prefix("trace:").unwrap().split_once(": ").unwrap();
            assert!((1..=lines).contains(&line.parse().unwrap()), "{error}");
            assert!(!reason.is_empty(), "{error}");
        }
    }
    if let Ok(trace) = Unstructured::new(data).arbitrary::<Trace>() {
        let text = trace.text();
        match read(text.as_bytes()) {
            Ok(requests) => assert_eq!(requests, trace.sorted()),
            Err(error) => assert!(trace.requests.is_empty(), "{error}: {text:?}"),
        }
    }
});
