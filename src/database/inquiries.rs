//! Whether a host is silent, which is asked over another connection.

use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::database::host::HostAddress;
use crate::database::session::OVERDUE_AFTER;

/// How long other hosts are tried before one that was silent.
const AVOIDED_FOR: Duration = Duration::from_secs(30);

/// The last inquiry of all connections that were made by the same options, so that many unanswered
/// statements make few connections.
#[derive(Default)]
pub(super) struct Inquiries(Mutex<Option<Inquiry>>);

struct Inquiry {
    host: HostAddress,
    ended_at: Instant,
    is_silent: bool,
}

impl Inquiries {
    /// Whether `host` was silent a short while ago.
    pub(super) fn was_silent(&self, host: &HostAddress) -> bool {
        let last = self.0.try_lock();
        last.is_ok_and(|last| {
            last.as_ref().is_some_and(|last| {
                last.is_silent && last.host == *host && last.ended_at.elapsed() < AVOIDED_FOR
            })
        })
    }

    /// Whether `host` is silent: by an inquiry that just ended, or by `ask`.
    pub(super) async fn is_silent(
        &self,
        host: &HostAddress,
        ask: impl Future<Output = bool>,
    ) -> bool {
        let mut last = self.0.lock().await;
        if let Some(last) = &*last
            && last.host == *host
            && last.ended_at.elapsed() < OVERDUE_AFTER
        {
            return last.is_silent;
        }
        let is_silent = ask.await;
        *last = Some(Inquiry { host: host.clone(), ended_at: Instant::now(), is_silent });
        is_silent
    }
}
