//! The requests to replay: read from a trace, or generated.

use csv::{ReaderBuilder, StringRecord, Trim};
use model_experiments::chrono::NaiveDateTime;
use std::fmt::Display;
use std::num::IntErrorKind;
use std::path::Path;

use crate::Result;

/// Positions of the columns to read, which are named as in the Azure LLM inference traces.
struct Columns {
    timestamp: usize,
    input_tokens: usize,
    output_tokens: usize,
}

/// A request of a trace.
#[derive(Clone, Copy)]
pub struct TraceRequest {
    /// Position in the trace, from 0.
    pub number: usize,
    pub input_tokens: u32,
    pub output_tokens: u32,
}

/// Reads the trace file `path`, ordered by time. An error starts with the file and the line.
pub fn read(path: &Path) -> Result<Vec<TraceRequest>> {
    let file = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{file}: {error}"))?;
    parse(file, &bytes)
}

/// Reads a trace from `bytes`. Errors name it `file`.
pub fn parse(file: impl Display, bytes: &[u8]) -> Result<Vec<TraceRequest>> {
    let text = str::from_utf8(bytes).map_err(|error| {
        format!("{file}:{}: is not UTF-8 text", line_at(bytes, error.valid_up_to()))
    })?;
    let mut reader =
        ReaderBuilder::new().flexible(true).trim(Trim::All).from_reader(text.as_bytes());

    let header = reader.headers().map_err(|error| format!("{file}:1: {error}"))?.clone();
    let position = |column: &str| {
        let position = header.iter().position(|name| name == column);
        position.ok_or_else(|| format!("{file}:1: the header has no column {column}"))
    };
    let columns = Columns {
        timestamp: position("TIMESTAMP")?,
        input_tokens: position("ContextTokens")?,
        output_tokens: position("GeneratedTokens")?,
    };

    let mut requests = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("{file}: {error}"))?;
        let request = request(&record, &header, &columns).map_err(|reason| {
            let start = record.position().map_or(0, csv::Position::byte);
            format!("{file}:{}: {reason}", line_at(bytes, usize::try_from(start).unwrap_or(0)))
        })?;
        requests.push(request);
    }
    if requests.is_empty() {
        return Err(format!("{file}:1: no request follows the header").into());
    }
    requests.sort_by_key(|(at, _)| *at);
    Ok(requests
        .into_iter()
        .enumerate()
        .map(|(number, (_, request))| TraceRequest { number, ..request })
        .collect())
}

fn request(
    record: &StringRecord,
    header: &StringRecord,
    columns: &Columns,
) -> Result<(NaiveDateTime, TraceRequest), String> {
    if record.len() != header.len() {
        return Err(format!("has {} fields, and the header {}", record.len(), header.len()));
    }
    let at = NaiveDateTime::parse_from_str(&record[columns.timestamp], "%Y-%m-%d %H:%M:%S%.f")
        .map_err(|_| "TIMESTAMP must be like 2023-11-16 18:15:46.6805900")?;
    let tokens = |column: usize| {
        record[column].parse().map_err(|error: std::num::ParseIntError| {
            let reason = match error.kind() {
                IntErrorKind::PosOverflow => "is too large",
                _ => "must be a whole number",
            };
            format!("{} {reason}", &header[column])
        })
    };
    let (input_tokens, output_tokens) =
        (tokens(columns.input_tokens)?, tokens(columns.output_tokens)?);
    Ok((at, TraceRequest { number: 0, input_tokens, output_tokens }))
}

/// The line number of the record that starts at byte `start`, or after the line ends there.
///
/// The reader's own count is too low after CR LF line ends and after empty lines.
fn line_at(bytes: &[u8], start: usize) -> usize {
    let (before, rest) = bytes.split_at(start);
    let ends = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    1 + before.iter().chain(ends).filter(|byte| **byte == b'\n').count()
}

/// Generates `count` requests, the same on every run: most prompts are short, a few very long, and
/// about 1 % of the answers are empty.
pub fn generate(count: usize) -> Vec<TraceRequest> {
    let mut random = Random(0);
    (0..count)
        .map(|number| TraceRequest {
            number,
            // The product of two draws is more often small than large.
            input_tokens: 20 + random.below(90) * random.below(90),
            output_tokens: if random.below(100) == 0 { 0 } else { 1 + random.below(600) },
        })
        .collect()
}

/// SplitMix64, <https://prng.di.unimi.it/splitmix64.c>. A library may change what it generates.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The upper half fits 32 bits.
        ((z ^ (z >> 31)) >> 32) as u32 % bound
    }
}
