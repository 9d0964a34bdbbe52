//! Who records: many at once, some of it wrong, some of it twice, and not all of them stay for the
//! answer.

use model_experiments::Error;
use model_experiments::recording::{NotRecorded, Receipt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::ledger::{Content, End, Entry};
use crate::report::Counts;
use crate::support::fixtures::cancelled_after;
use crate::tested_recorder::TestedRecorder;

/// How long an answer may take: longer than any recorder tries and any fault lasts.
const ANSWER: Duration = Duration::from_secs(150);

/// What is recorded.
#[derive(Debug, Clone, Copy)]
enum What {
    New,
    /// What was recorded lately, as it was.
    Again(usize),
    /// With another usage.
    OtherUsage(usize),
    /// With another request.
    OtherRequest(usize),
    NoSuchVersion,
    AgainstHostRule,
    Nul,
    TooLong,
}

/// How it is recorded.
#[derive(Debug, Clone, Copy)]
enum How {
    Wait,
    /// Only if there is room.
    Try,
    /// Without waiting for the answer.
    Leave,
    /// Waiting for room for so many polls at most, as one whose own time is over.
    Cancel(usize),
}

/// What one does before the next pause.
type Step = (Vec<What>, How, u64);

fn step() -> impl Strategy<Value = Step> {
    // Finding the few that are refused takes many statements, each of which may meet a fault.
    let what = prop_oneof![
        1_000 => Just(What::New),
        80 => (0..200_usize).prop_map(What::Again),
        20 => (0..200_usize).prop_map(What::OtherUsage),
        20 => (0..200_usize).prop_map(What::OtherRequest),
        1 => Just(What::NoSuchVersion),
        1 => Just(What::AgainstHostRule),
        4 => Just(What::Nul),
        4 => Just(What::TooLong),
    ];
    let how = prop_oneof![
        12 => Just(How::Wait),
        3 => Just(How::Try),
        2 => Just(How::Leave),
        2 => (1..=2_usize).prop_map(How::Cancel),
    ];
    (vec(what, 1..=6), how, 0..=40_u64)
}

/// What callers did that is a fault of its own, by name.
#[derive(Default)]
pub struct Seen {
    pub cancelled: AtomicUsize,
    pub left: AtomicUsize,
    pub full: AtomicUsize,
    pub invalid: AtomicUsize,
    pub violating: AtomicUsize,
    pub repeated: AtomicUsize,
}

impl Seen {
    pub fn counts(&self) -> Counts {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Counts::from([
            ("cancelled waiting for room", of(&self.cancelled)),
            ("left without its answer", of(&self.left)),
            ("found no room", of(&self.full)),
            ("NUL character or too long", of(&self.invalid)),
            ("violates a constraint", of(&self.violating)),
            ("repeats an id", of(&self.repeated)),
        ])
    }
}

/// Records through `tested` until it is told to stop or the recorder is closed.
pub async fn run(tested: Arc<TestedRecorder>, mut runner: TestRunner, stop: Arc<AtomicBool>) {
    let step = step();
    while !stop.load(Ordering::Relaxed) {
        let (what, how, pause) = step.new_tree(&mut runner).unwrap().current();
        let mut receipts = Vec::new();
        for what in what {
            receipts.extend(submit(&tested, what, how).await);
        }
        for (number, receipt) in receipts {
            let answer = timeout(ANSWER, receipt).await;
            let told = answer.unwrap_or_else(|_| panic!("{}: an answer never came", tested.name));
            tested.database.ledger.ended(number, End::Told(told.map_err(|not| not.error)));
        }
        sleep(Duration::from_millis(pause)).await;
    }
}

/// Submits a record, and tells its number and receipt if there is an answer to wait for.
async fn submit(tested: &TestedRecorder, what: What, how: How) -> Option<(usize, Receipt)> {
    let content = content(tested, what)?;
    let (record, is_valid) = (content.record(), content.is_valid());
    let is_patient = tested.is_patient;
    let number = tested.database.ledger.submit(Entry { content, is_patient, end: End::Unheard });
    let taken = match how {
        How::Try => tested.recorder.try_submit(record),
        How::Cancel(polls) => match cancelled_after(polls, tested.recorder.submit(record)).await {
            Some(taken) => taken,
            None => {
                tested.seen.cancelled.fetch_add(1, Ordering::Relaxed);
                tested.database.ledger.ended(number, End::NotTaken);
                return None;
            }
        },
        How::Wait | How::Leave => tested.recorder.submit(record).await,
    };
    match taken {
        Ok(receipt) => {
            assert!(is_valid, "{what:?} was taken");
            count(tested, what);
            if matches!(how, How::Leave) {
                tested.seen.left.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            Some((number, receipt))
        }
        Err(NotRecorded { error, .. }) => {
            let counter = match error {
                Error::RecorderFull if matches!(how, How::Try) => Some(&tested.seen.full),
                Error::Invalid(_) if !is_valid => Some(&tested.seen.invalid),
                Error::RecorderClosed => None,
                error => panic!("{}: {what:?} {how:?}: {error:?}", tested.name),
            };
            counter.map(|counter| counter.fetch_add(1, Ordering::Relaxed));
            tested.database.ledger.ended(number, End::NotTaken);
            None
        }
    }
}

fn count(tested: &TestedRecorder, what: What) {
    let counter = match what {
        What::NoSuchVersion | What::AgainstHostRule => &tested.seen.violating,
        What::Again(_) | What::OtherUsage(_) | What::OtherRequest(_) => &tested.seen.repeated,
        _ => return,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The content; `None` where there is nothing yet to repeat.
fn content(tested: &TestedRecorder, what: What) -> Option<Content> {
    let mut content = Content::new(tested.database.version);
    match what {
        What::New => {}
        What::Again(back) => content = tested.database.ledger.recent(back)?,
        What::OtherUsage(back) => {
            content = tested.database.ledger.recent(back)?;
            content.usage.cost += 1;
        }
        What::OtherRequest(back) => {
            content = tested.database.ledger.recent(back)?;
            content.client_request_id.push('+');
        }
        What::NoSuchVersion => content.version = Uuid::nil().into(),
        What::AgainstHostRule => content.usage.cost = i64::MIN,
        What::Nul => content.usage.model = Some("a\0b".to_owned()),
        What::TooLong => content.usage.kilo_user_id = "u".repeat(2_049),
    }
    Some(content)
}
