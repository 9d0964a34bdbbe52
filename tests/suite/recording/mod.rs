//! What was served: recording by a call, and recording in the background.

mod kept;
mod record;
mod recorder;
