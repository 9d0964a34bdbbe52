//! What all writers of a recorder share.

use std::sync::Arc;
use tokio::sync::watch;

use crate::database::connect::ConnectOptions;
use crate::recording::recorder::capacity::Capacity;
use crate::recording::recorder::options::RecorderOptions;
use crate::recording::recorder::progress::Progress;

/// What all writers of a recorder share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) options: RecorderOptions,
    pub(super) connect: ConnectOptions,
    pub(super) capacity: Arc<Capacity>,
    pub(super) progress: Arc<Progress>,
    /// Turns true when a shutdown's deadline has passed.
    pub(super) stop: watch::Receiver<bool>,
}
