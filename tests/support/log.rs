//! What is logged, kept.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Keeps what is logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps what this thread logs, for as long as the guard is there.
    pub fn of_thread() -> (Self, DefaultGuard) {
        // Without a global subscriber, a thread that has none turns an event off for all threads.
        static GLOBAL: Once = Once::new();
        GLOBAL.call_once(|| {
            let sink = tracing_subscriber::fmt().with_writer(io::sink).finish();
            tracing::subscriber::set_global_default(sink).unwrap();
        });
        let log = Self::default();
        let subscriber =
            tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The lines of errors.
    pub fn errors(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(" ERROR ")).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
