//! The gateway's part: route each request and record what served it.

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use model_experiments::recording::{NewRequest, Outcome, Record, Usage};
use model_experiments::routing::{Route, Subject};
use model_experiments::serde_json::json;
use model_experiments::values::{PromptCapture, PublicModelId, VariantId};
use model_experiments::{Recorder, RoutingCache};
use std::time::{Duration, Instant};

use crate::price::cost;
use crate::trace::TraceRequest;
use crate::{CONCURRENCY, Result};

/// Number of users that send requests.
const USERS: usize = 300;

/// Longest wait until routing knows of a change.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// A gateway that replays requests and calls no upstream.
pub struct Gateway<'a> {
    recorder: &'a Recorder,
    routing: &'a RoutingCache,
    model: &'a PublicModelId,
    bar: ProgressBar,
    recorded: usize,
    elapsed: Duration,
}

/// A request that was served and recorded.
pub struct ServedRequest {
    pub client_request_id: String,
    pub variant: VariantId,
}

/// All users.
pub fn users() -> impl Iterator<Item = String> {
    (0..USERS).map(user)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

impl<'a> Gateway<'a> {
    /// A gateway that will serve `requests` requests for `model`.
    pub fn new(
        recorder: &'a Recorder,
        routing: &'a RoutingCache,
        model: &'a PublicModelId,
        requests: usize,
    ) -> Result<Self> {
        let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {eta}")?;
        let bar = ProgressBar::new(u64::try_from(requests)?).with_style(style);
        Ok(Self { recorder, routing, model, bar, recorded: 0, elapsed: Duration::ZERO })
    }

    /// Prints a line above the progress bar.
    pub fn print(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// Removes the progress bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Routes a request of `user`.
    pub fn route(&self, user: &str) -> Route {
        self.routing.pick(self.model.as_str(), Subject::user(user))
    }

    /// Waits until some user's route `is_expected`, and returns how long that took.
    pub async fn wait_until(&self, is_expected: impl Fn(&Route) -> bool) -> Result<Duration> {
        let start = Instant::now();
        while !users().any(|user| is_expected(&self.route(&user))) {
            if start.elapsed() > CHANGE_TIMEOUT {
                return Err("routing did not learn of a change in time".into());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(start.elapsed())
    }

    /// Routes and records `requests`, [`CONCURRENCY`] at a time.
    pub async fn replay(&mut self, requests: &[TraceRequest]) -> Result<Vec<ServedRequest>> {
        let start = Instant::now();
        let served: Vec<_> = stream::iter(requests)
            .map(|request| self.serve(request))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        self.elapsed += start.elapsed();
        self.recorded += served.len();
        Ok(served)
    }

    async fn serve(&self, request: &TraceRequest) -> Result<ServedRequest> {
        let TraceRequest { number, input_tokens, output_tokens } = *request;
        let user = user(number % USERS);
        let served = match self.route(&user) {
            Route::Serve(served) => served,
            other => return Err(format!("request {number} was not served: {other:?}").into()),
        };
        let body = json!({
            "model": self.model.as_str(),
            "messages": [
                {"role": "system", "content": "Answer in one sentence."},
                {"role": "user", "content": format!("Question {number} of {user}")},
            ],
        });
        let client_request_id = format!("{}-{number}", served.experiment);
        let new_request = NewRequest::served_by(&served)
            .client_request_id(&client_request_id)
            .prompt(&PromptCapture::of(&body));

        let usage = Usage {
            cost: cost(input_tokens, output_tokens),
            input_tokens: input_tokens.into(),
            output_tokens: output_tokens.into(),
            model: Some(served.upstream().internal_id().to_owned()),
            requested_model: Some(self.model.as_str().to_owned()),
            // A trace shows a failure only by an empty answer.
            has_error: output_tokens == 0,
            ..Usage::new(user)
        };
        match self.recorder.submit(Record::new(usage, new_request)).await?.await? {
            Outcome::Recorded => {}
            Outcome::AlreadyRecorded => {
                return Err(format!("request {number} was already recorded").into());
            }
        }
        self.bar.inc(1);
        Ok(ServedRequest { client_request_id, variant: served.variant })
    }

    /// The rate of written rows during the replays.
    pub fn throughput(&self) -> String {
        let (rows, seconds) = (2 * self.recorded, self.elapsed.as_secs_f64());
        format!(
            "Recorded {rows} rows in {seconds:.1} s: {:.0} rows/s, two for each request",
            rows as f64 / seconds
        )
    }
}
