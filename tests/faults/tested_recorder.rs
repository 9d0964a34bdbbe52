//! A recorder behind a way of its own to the server.

use model_experiments::{Recorder, RecorderOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::callers::Seen;
use crate::database::Database;
use crate::report::Counts;
use crate::support;
use crate::support::connect;
use crate::support::fixtures::{eventually, number};
use crate::wire::Wire;

/// How long a recorder waits for an answer: longer than the server takes to find a deadlock.
pub const WRITE_TIMEOUT: Duration = Duration::from_millis(800);

/// Longer than any fault lasts, and any number of them in a row.
const PATIENT: Duration = Duration::from_secs(60);

/// A recorder, and the way to its database.
pub struct TestedRecorder {
    /// What the server shows its connections as, too.
    pub name: &'static str,
    pub database: Arc<Database>,
    pub wire: Wire,
    pub recorder: Recorder,
    /// Whether the recorder never gives up here.
    pub is_patient: bool,
    pub seen: Seen,
    /// How often the table was locked on its behalf.
    pub locked: AtomicUsize,
}

impl TestedRecorder {
    /// Starts a recorder that tries for so long.
    pub async fn start(
        name: &'static str,
        database: &Arc<Database>,
        options: RecorderOptions,
        retry_for: Duration,
    ) -> Arc<Self> {
        let wire = Wire::to(&database.url).await;
        let options = options.write_timeout(WRITE_TIMEOUT).retry_for(retry_for);
        let connect = support::options(wire.url()).application_name(name);
        let recorder = Recorder::start(&connect, options).await.unwrap();
        let (database, is_patient) = (Arc::clone(database), retry_for >= PATIENT);
        Arc::new(Self {
            name,
            database,
            wire,
            recorder,
            is_patient,
            seen: Seen::default(),
            locked: AtomicUsize::new(0),
        })
    }

    /// How often each fault was met: on the way, and on the server by the word of its errors.
    pub fn faults(&self) -> Counts {
        let mut faults = self.wire.fired();
        faults.insert("table locked", self.locked.load(Ordering::Relaxed));
        let errors = self.wire.errors();
        for (name, code) in [
            ("backend terminated", "57P01"),
            ("deadlock", "40P01"),
            ("no space left on device", "53100"),
        ] {
            faults.insert(name, errors.get(code).copied().unwrap_or_default());
        }
        faults
    }

    /// Waits until the server has no connection of it any more.
    pub async fn until_disconnected(&self) {
        let conn = &mut connect(&self.database.url).await.unwrap();
        let name = self.name;
        let of_recorder = format!(
            "SELECT count(*) AS number FROM pg_stat_activity WHERE application_name = '{name}'"
        );
        eventually("no connection is left", async || number(conn, &of_recorder).await == 0).await;
    }
}
