//! What a process's logger and Diesel's default instrumentation see. Both need a process of their
//! own.

#[expect(dead_code, reason = "the suite uses the rest")]
#[path = "support/mod.rs"]
mod support;

use diesel::connection::{InstrumentationEvent, set_default_instrumentation};
use log::{Level, LevelFilter, Log, Metadata, Record};
use model_experiments::experiments::{self, NewVersion};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use support::TestDatabase;
use support::fixtures::{active, key, raw, upstream};

struct Entry {
    level: Level,
    target: String,
    text: String,
}

/// Keeps what is logged.
struct Entries(Mutex<Vec<Entry>>);

static ENTRIES: Entries = Entries(Mutex::new(Vec::new()));

impl Log for Entries {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(Entry {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
        });
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn an_encrypted_key_is_logged_by_the_driver_below_info_and_by_nobody_else() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = active(conn, "partner/foo").await.control.id;
    let (upstream, key) = (upstream("rc2"), key("sk-partner"));
    log::set_logger(&ENTRIES).unwrap();
    log::set_max_level(LevelFilter::Trace);
    experiments::publish(conn, variant, NewVersion::with_key(&upstream, &key)).await.unwrap();

    // As the driver writes bytes.
    let json = key.to_json();
    let bytes = format!("{:?}", json["data"].as_str().unwrap().as_bytes());
    let ciphertext = bytes.trim_matches(['[', ']']);
    let entries = ENTRIES.0.lock().unwrap();
    let showing: Vec<_> = entries.iter().filter(|entry| entry.text.contains(ciphertext)).collect();
    // The documentation of `ApiKeyCipher` warns of it. It can go when this fails.
    assert!(!showing.is_empty());
    for Entry { level, target, .. } in showing {
        assert_eq!(*level, Level::Debug, "{target}");
        assert!(target.starts_with("tokio_postgres::"), "{target}");
    }
}

#[tokio::test]
async fn a_default_instrumentation_sees_the_statements_of_pooled_connections() {
    static MARKED: AtomicUsize = AtomicUsize::new(0);
    set_default_instrumentation(|| {
        Some(Box::new(|event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::FinishQuery { query, .. } = event
                && query.to_string() == "SELECT 'marked'"
            {
                MARKED.fetch_add(1, Relaxed);
            }
        }))
    })
    .unwrap();
    let db = TestDatabase::empty().await;
    let mut conn = db.pool(1).get().await.unwrap();
    raw(&mut conn, "SELECT 'marked'").await.unwrap();
    assert_eq!(MARKED.load(Relaxed), 1);
}
