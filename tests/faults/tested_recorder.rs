//! A recorder under test, which reaches its database through a proxy of its own.

use model_experiments::{Recorder, RecorderOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::callers::CallerCounts;
use crate::database::Database;
use crate::report::Counts;
use crate::support;
use crate::support::fixtures::{eventually, number};
use crate::wire::Proxy;

/// How long a recorder waits for an answer: longer than the server takes to detect a deadlock.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(800);

/// How long a recorder retries that never gives up: longer than any faults in a row last.
pub const NEVER_GIVES_UP: Duration = Duration::from_secs(100);

/// A recorder under test.
pub struct TestedRecorder {
    /// Also its connections' application name on the server.
    pub name: &'static str,
    pub database: Arc<Database>,
    pub proxy: Proxy,
    pub recorder: Recorder,
    pub never_gives_up: bool,
    /// What its callers did.
    pub counts: CallerCounts,
    /// How often an injector locked the table.
    pub locks: AtomicUsize,
}

impl TestedRecorder {
    /// Starts a recorder that retries for `retry_for`.
    pub async fn start(
        name: &'static str,
        database: &Arc<Database>,
        options: RecorderOptions,
        retry_for: Duration,
    ) -> Arc<Self> {
        let proxy = Proxy::to(&database.url).await;
        let connect = support::options(proxy.url()).application_name(name);
        let options = options.write_timeout(WRITE_TIMEOUT).retry_for(retry_for);
        let recorder = Recorder::start(&connect, options).await.unwrap();
        Arc::new(Self {
            name,
            database: Arc::clone(database),
            proxy,
            recorder,
            never_gives_up: retry_for >= NEVER_GIVES_UP,
            counts: CallerCounts::default(),
            locks: AtomicUsize::new(0),
        })
    }

    /// How often each fault happened: on the network, and on the server by the errors it sent.
    pub fn faults(&self) -> Counts {
        let mut faults = self.proxy.fired();
        faults.insert("table locked", self.locks.load(Ordering::Relaxed));
        let errors = self.proxy.errors();
        for (name, code) in [
            ("backend terminated", "57P01"),
            ("deadlock", "40P01"),
            ("no space left on device", "53100"),
        ] {
            faults.insert(name, errors.get(code).copied().unwrap_or_default());
        }
        faults
    }

    /// Waits until the server has closed all connections of the recorder.
    pub async fn wait_until_disconnected(&self) {
        let conn = &mut support::connect(&self.database.url).await.unwrap();
        let name = self.name;
        let connections = format!(
            "SELECT count(*) AS number FROM pg_stat_activity WHERE application_name = '{name}'"
        );
        eventually("all connections are closed", async || number(conn, &connections).await == 0)
            .await;
    }
}
