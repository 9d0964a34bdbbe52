//! What a gateway does: routing each request, and recording what served it.

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use model_experiments::recording::{NewRequest, Outcome, Record, Usage};
use model_experiments::routing::{Route, Subject};
use model_experiments::values::{PromptCapture, PublicModelId, VariantId};
use model_experiments::{Recorder, RoutingCache};
use serde_json::json;
use std::time::{Duration, Instant};

use crate::trace::TraceRequest;
use crate::{CONCURRENCY, Result};

/// How many users the requests come from.
const USERS: usize = 300;

/// Microdollars for a token: three dollars for a million of the prompt's.
const INPUT_PRICE: u32 = 3;

/// Microdollars for a token: fifteen dollars for a million of the answer's.
const OUTPUT_PRICE: u32 = 15;

/// How long a change may take to be heard of, before the tour gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway that replays requests in place of calling anybody.
pub struct Gateway<'a> {
    recorder: &'a Recorder,
    routing: &'a RoutingCache,
    model: &'a PublicModelId,
    bar: ProgressBar,
    recorded: usize,
    busy: Duration,
}

/// A request that was served and recorded.
pub struct Served {
    pub client_request_id: String,
    pub variant: VariantId,
}

/// The users.
pub fn users() -> impl Iterator<Item = String> {
    (0..USERS).map(user)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

impl<'a> Gateway<'a> {
    /// A gateway that is to serve `requests` requests for `model`.
    pub fn new(
        recorder: &'a Recorder,
        routing: &'a RoutingCache,
        model: &'a PublicModelId,
        requests: usize,
    ) -> Result<Self> {
        let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {eta}")?;
        let bar = ProgressBar::new(u64::try_from(requests)?).with_style(style);
        Ok(Self { recorder, routing, model, bar, recorded: 0, busy: Duration::ZERO })
    }

    /// Prints a line above the progress bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// Takes the progress bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// What to do with a request of `user`.
    pub fn route(&self, user: &str) -> Route {
        self.routing.pick(self.model.as_str(), Subject::user(user))
    }

    /// Waits until a user's requests are routed as `is_expected` says, and tells how long that took.
    pub async fn until(&self, is_expected: impl Fn(&Route) -> bool) -> Result<Duration> {
        let start = Instant::now();
        while !users().any(|user| is_expected(&self.route(&user))) {
            if start.elapsed() > PATIENCE {
                return Err("routing didn't hear of a change".into());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(start.elapsed())
    }

    /// Routes and records `requests`, several at a time.
    pub async fn replay(&mut self, requests: &[TraceRequest]) -> Result<Vec<Served>> {
        let start = Instant::now();
        let served: Vec<_> = stream::iter(requests)
            .map(|request| self.serve(request))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        self.busy += start.elapsed();
        self.recorded += served.len();
        Ok(served)
    }

    async fn serve(&self, request: &TraceRequest) -> Result<Served> {
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
        let new_request = NewRequest::new(served.version, served.subject)
            .client_request_id(&client_request_id)
            .prompt(&PromptCapture::of(&body));

        let usage = Usage {
            cost: i64::from(input_tokens) * i64::from(INPUT_PRICE)
                + i64::from(output_tokens) * i64::from(OUTPUT_PRICE),
            input_tokens: input_tokens.into(),
            output_tokens: output_tokens.into(),
            model: Some(served.upstream().internal_id().to_owned()),
            requested_model: Some(self.model.as_str().to_owned()),
            // Of a trace, all that tells of a failure is that there was no answer.
            has_error: output_tokens == 0,
            ..Usage::new(user)
        };
        match self.recorder.submit(Record::new(usage, new_request)).await?.await? {
            Outcome::Recorded => {}
            Outcome::AlreadyRecorded => {
                return Err(format!("request {number} was recorded before").into());
            }
        }
        self.bar.inc(1);
        Ok(Served { client_request_id, variant: served.variant })
    }

    /// How fast rows were written while requests were replayed.
    pub fn throughput(&self) -> String {
        let (rows, seconds) = (2 * self.recorded, self.busy.as_secs_f64());
        format!(
            "Recorded {rows} rows in {seconds:.1} s: {:.0} rows/s, two for each request",
            rows as f64 / seconds
        )
    }
}
