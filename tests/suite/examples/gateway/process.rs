//! The example as a process, its clients, its operator and its upstream.

use crate::support::{TestDatabase, example};
use axum::http::HeaderMap;
use model_experiments::values::VersionId;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What every prompt contains.
pub const PROMPT: &str = "confidential";

/// What every key begins with.
pub const KEYS: &str = "sk-demo-";

/// A timeout that a busy machine doesn't reach.
pub const LONG: Duration = Duration::from_secs(60);

/// A running gateway. It is killed with this value.
pub struct Gateway {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    client: Client,
    pub url: String,
    pub upstream: String,
    pub model: String,
    authorization: String,
}

/// What a client was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

/// What the fake upstream was called with.
#[derive(Debug, Deserialize)]
pub struct Call {
    pub request_id: String,
    pub key: usize,
    pub body: Map<String, Value>,
}

impl Gateway {
    pub async fn start(db: &TestDatabase) -> Self {
        Self::start_with(db, &[]).await
    }

    pub async fn start_with(db: &TestDatabase, arguments: &[&str]) -> Self {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let build = || BUILT.get_or_init(|| example::build("gateway"));
        let mut child = Command::new(tokio::task::spawn_blocking(build).await.unwrap())
            .args(["--port", "0"])
            .args(arguments)
            .env("DATABASE_URL", db.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = Arc::<Mutex<String>>::default();
        let printed = Arc::<Notify>::default();
        let readers = vec![
            tokio::spawn(collect(child.stdout.take().unwrap(), output.clone(), printed.clone())),
            tokio::spawn(collect(child.stderr.take().unwrap(), output.clone(), printed.clone())),
        ];
        let wait = async {
            while !output.lock().unwrap().contains("/metrics") {
                printed.notified().await;
                assert_eq!(child.try_wait().unwrap(), None, "{}", output.lock().unwrap());
            }
        };
        timeout(LONG, wait).await.unwrap();
        let text = output.lock().unwrap().clone();
        let between = |start: &str, end: &str| {
            let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{text}"));
            rest.split(end).next().unwrap().to_owned()
        };
        Self {
            url: between("Gateway on ", ","),
            upstream: between("upstream on ", "\n"),
            model: between("\"model\": \"", "\""),
            authorization: between("Authorization: ", "'"),
            client: Client::builder().no_proxy().build().unwrap(),
            child,
            output,
            readers,
        }
    }

    /// A chat request without an id of its client.
    pub fn chat(&self) -> RequestBuilder {
        self.client.post(format!("{}/v1/chat/completions", self.url))
    }

    /// The body of a chat request.
    pub fn body(&self) -> Value {
        json!({
            "model": self.model,
            "temperature": 1.5,
            "logprobs": true,
            "max_tokens": 100,
            "messages": [
                {"role": "system", "content": format!("Keep what is {PROMPT}.")},
                {"role": "user", "content": format!("What is {PROMPT}?")},
            ],
        })
    }

    /// Has `user` ask.
    pub async fn ask(&self, user: &str) -> Answer {
        Answer::of(self.chat().header("x-user-id", user).json(&self.body())).await
    }

    /// The call of the fake upstream for the request with this answer.
    pub async fn call_of(&self, answer: &Answer) -> Call {
        let calls = Answer::of(self.client.get(format!("{}/calls", self.upstream))).await;
        let calls: Vec<Call> = serde_json::from_str(&calls.text).unwrap();
        let is_of_answer = |call: &Call| call.request_id == answer.request_id();
        let calls: Vec<_> = calls.into_iter().filter(is_of_answer).collect();
        let [call] = <[_; 1]>::try_from(calls).unwrap();
        call
    }

    /// An operator's request, with a token.
    pub fn operate(&self, path: &str) -> RequestBuilder {
        self.client
            .post(format!("{}/admin/{path}", self.url))
            .header("authorization", &self.authorization)
    }

    /// Has the operator publish `new` for the variant `label`.
    pub async fn publish(&self, label: &str, new: Value) -> VersionId {
        let path = format!("variants/{label}/versions");
        let answer = Answer::of(self.operate(&path).json(&new)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        serde_json::from_str(&answer.text).unwrap()
    }

    /// What the gateway answers to a plain `GET`, with the operator's token.
    pub async fn get(&self, path: &str) -> Answer {
        let request = self.client.get(format!("{}/{path}", self.url));
        Answer::of(request.header("authorization", &self.authorization)).await
    }

    /// Whether its output contains `text`.
    pub fn has_printed(&self, text: &str) -> bool {
        self.output.lock().unwrap().contains(text)
    }

    /// Tells it to end.
    pub async fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    }

    /// Waits until it has ended without an error, and checks its output.
    pub async fn ended(mut self) {
        let status = timeout(LONG, self.child.wait()).await.unwrap().unwrap();
        for reader in self.readers.drain(..) {
            reader.await.unwrap();
        }
        let output = self.output.lock().unwrap();
        assert_eq!(status.code(), Some(0), "{output}");
        assert!(!output.contains(PROMPT) && !output.contains(KEYS), "{output}");
    }

    /// Ends it.
    pub async fn end(self) {
        self.terminate().await;
        self.ended().await;
    }
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = timeout(LONG, request.send()).await.unwrap().unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub fn request_id(&self) -> &str {
        self.headers["x-request-id"].to_str().unwrap()
    }
}

/// Collects the lines of an output, and notifies of each and of the end.
async fn collect(from: impl AsyncRead + Unpin, to: Arc<Mutex<String>>, printed: Arc<Notify>) {
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        to.lock().unwrap().extend([&line, "\n"]);
        printed.notify_one();
    }
    printed.notify_one();
}
