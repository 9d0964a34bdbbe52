//! Whether a host is silent, which is asked over another connection.

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::database::host::HostAddress;
use crate::database::session::OVERDUE_AFTER;

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
