//! What was served: recording by a call, and recording in the background.

mod record;
mod recorder;
