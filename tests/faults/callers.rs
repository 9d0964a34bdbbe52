//! Callers: many at once, with some invalid and some repeated records, and some that don't wait.

use model_experiments::recording::{NotRecorded, Receipt};
use model_experiments::{Error, uuid};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::ledger::{Answer, Content};
use crate::report::Counts;
use crate::support::fixtures::cancelled_after;
use crate::tested_recorder::TestedRecorder;

/// Longest wait for an answer: longer than any recorder retries and any fault lasts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// What a caller records. A number counts back from the newest record.
#[derive(Debug, Clone, Copy)]
enum Input {
    New,
    /// A recent record, unchanged.
    Repeated(usize),
    /// A recent record with another usage.
    OtherUsage(usize),
    /// A recent record with another request.
    OtherRequest(usize),
    UnknownVersion,
    AgainstHostRule,
    Nul,
    TooLong,
}

/// How a caller submits its record.
#[derive(Debug, Clone, Copy)]
enum Submission {
    /// Waits for room and for the answer.
    Wait,
    /// Doesn't wait for room.
    Try,
    /// Doesn't wait for the answer.
    Leave,
    /// Is cancelled after so many polls, unless there is room.
    Cancel(usize),
}

/// What a caller does before it pauses.
#[derive(Debug, Clone)]
struct Step {
    inputs: Vec<Input>,
    submission: Submission,
    pause: Duration,
}

/// A submitted record whose answer is awaited.
struct Submitted {
    number: usize,
    receipt: Receipt,
}

fn step() -> impl Strategy<Value = Step> {
    // Refused records are rare: finding one takes many statements, each of which may meet a fault.
    let input = prop_oneof![
        1_000 => Just(Input::New),
        80 => (0..200_usize).prop_map(Input::Repeated),
        20 => (0..200_usize).prop_map(Input::OtherUsage),
        20 => (0..200_usize).prop_map(Input::OtherRequest),
        1 => Just(Input::UnknownVersion),
        1 => Just(Input::AgainstHostRule),
        4 => Just(Input::Nul),
        4 => Just(Input::TooLong),
    ];
    let submission = prop_oneof![
        12 => Just(Submission::Wait),
        3 => Just(Submission::Try),
        2 => Just(Submission::Leave),
        2 => (1..=2_usize).prop_map(Submission::Cancel),
    ];
    let pause = (0..=40_u64).prop_map(Duration::from_millis);
    (vec(input, 1..=6), submission, pause).prop_map(|(inputs, submission, pause)| Step {
        inputs,
        submission,
        pause,
    })
}

/// How often callers did what counts as a fault of their own.
#[derive(Default)]
pub struct CallerCounts {
    cancelled: AtomicUsize,
    left: AtomicUsize,
    full: AtomicUsize,
    invalid: AtomicUsize,
    violating: AtomicUsize,
    repeated: AtomicUsize,
}

impl CallerCounts {
    pub fn by_name(&self) -> Counts {
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

/// Records through the recorder until it is told to stop or the recorder is closed.
pub async fn run(tested: Arc<TestedRecorder>, mut runner: TestRunner, stop: Arc<AtomicBool>) {
    let step = step();
    while !stop.load(Ordering::Relaxed) {
        let Step { inputs, submission, pause } = step.new_tree(&mut runner).unwrap().current();
        let mut submitted = Vec::new();
        for input in inputs {
            submitted.extend(submit(&tested, input, submission).await);
        }
        for Submitted { number, receipt } in submitted {
            let answer = timeout(ANSWER_TIMEOUT, receipt).await;
            let answer = answer.unwrap_or_else(|_| panic!("{}: no answer came", tested.name));
            let answer = Answer::Received(answer.map_err(|not_recorded| not_recorded.error));
            tested.database.ledger.set_answer(number, answer);
        }
        sleep(pause).await;
    }
}

/// Submits a record. Returns it if there is an answer to wait for.
async fn submit(
    tested: &TestedRecorder,
    input: Input,
    submission: Submission,
) -> Option<Submitted> {
    let TestedRecorder { recorder, counts, .. } = tested;
    let ledger = &tested.database.ledger;
    let content = content(tested, input)?;
    let (record, is_valid) = (content.record(), content.is_valid());
    let number = ledger.submit(content, tested.never_gives_up);
    let result = match submission {
        Submission::Try => Some(recorder.try_submit(record)),
        Submission::Cancel(polls) => cancelled_after(polls, recorder.submit(record)).await,
        Submission::Wait | Submission::Leave => Some(recorder.submit(record).await),
    };
    let counter = match result {
        Some(Ok(receipt)) => {
            assert!(is_valid, "{input:?} was accepted");
            count_input(counts, input);
            if matches!(submission, Submission::Leave) {
                counts.left.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            return Some(Submitted { number, receipt });
        }
        None => Some(&counts.cancelled),
        Some(Err(NotRecorded { error, .. })) => match error {
            Error::RecorderFull if matches!(submission, Submission::Try) => Some(&counts.full),
            Error::Invalid(_) if !is_valid => Some(&counts.invalid),
            Error::RecorderClosed => None,
            error => panic!("{}: {input:?} {submission:?}: {error:?}", tested.name),
        },
    };
    counter.map(|counter| counter.fetch_add(1, Ordering::Relaxed));
    ledger.set_answer(number, Answer::NotAccepted);
    None
}

fn count_input(counts: &CallerCounts, input: Input) {
    let counter = match input {
        Input::UnknownVersion | Input::AgainstHostRule => &counts.violating,
        Input::Repeated(_) | Input::OtherUsage(_) | Input::OtherRequest(_) => &counts.repeated,
        Input::New | Input::Nul | Input::TooLong => return,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The content to record; `None` if there is no record yet to repeat.
fn content(tested: &TestedRecorder, input: Input) -> Option<Content> {
    let mut content = match input {
        Input::Repeated(back) | Input::OtherUsage(back) | Input::OtherRequest(back) => {
            tested.database.ledger.recent(back)?
        }
        _ => Content::new(tested.database.version),
    };
    match input {
        Input::New | Input::Repeated(_) => {}
        Input::OtherUsage(_) => content.usage.cost += 1,
        Input::OtherRequest(_) => content.client_request_id.push('+'),
        Input::UnknownVersion => content.version = uuid::Uuid::nil().into(),
        Input::AgainstHostRule => content.usage.cost = i64::MIN,
        Input::Nul => content.usage.model = Some("a\0b".to_owned()),
        Input::TooLong => content.usage.kilo_user_id = "u".repeat(2_049),
    }
    Some(content)
}
