//! Bad input: too long, too deep, out of range, or no text. It is refused with the name of its
//! field before anything is written, or stored exactly.

use crate::support::fixtures::{
    Counts, Ready, active, counts, key, public_model_id, raw, record_one, request, unguard,
    upstream,
};
use crate::support::{TestDatabase, options};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::connection::InstrumentationEvent;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use model_experiments::experiments::{
    self, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion,
};
use model_experiments::recording::{self, Outcome, Record, Usage, record};
use model_experiments::reports::feedback;
use model_experiments::reports::summary::{self, VersionSummary};
use model_experiments::routing::{self, Route, Subject, Unavailable};
use model_experiments::values::{
    CAPTURE_CAP, EncryptedApiKey, ExperimentId, InvalidValue, Label, PromptCapture, PublicModelId,
    Sha256Digest, Timestamp, Upstream, VersionId,
};
use model_experiments::{ConnectOptions, Cursor, Error, Page, Pool, PoolOptions};
use serde_json::json;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

const NUL: &str = "must not contain a NUL character";

/// A text longer than PostgreSQL's longest. Its pages were never written, so that it takes no
/// memory until it is copied.
fn gigabyte() -> String {
    String::from_utf8(vec![0; 1 << 30]).unwrap()
}

/// The peak memory of this process, in bytes; 0 where the system doesn't say.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or(0, |peak| peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10)
}

fn assert_not_copied(peak_before: usize) {
    let grown = peak_memory() - peak_before;
    assert!(grown < 1 << 29, "{grown} bytes more than before");
}

fn assert_refused<T: Debug>(outcome: Result<T, Error>, field: &str, reason: &str) {
    let invalid = InvalidValue::new(field.to_owned(), reason.to_owned());
    assert_eq!(outcome.map(drop), Err(Error::Invalid(invalid)));
}

fn assert_misconfigured<T: Debug>(outcome: Result<T, Error>, message: &str) {
    match outcome {
        Err(Error::Configuration(cause)) => assert_eq!(cause.message(), message),
        outcome => panic!("{outcome:?}"),
    }
}

/// Passes `bad` in wherever the API takes a text.
async fn assert_refused_everywhere(
    conn: &mut AsyncPgConnection,
    ready: &Ready,
    bad: fn() -> String,
    reason: &str,
    indexed_reason: &str,
) {
    let bar = || NewExperiment::new(public_model_id("partner/bar"), "Bar");
    let named = NewExperiment::new(public_model_id("partner/bar"), bad());
    assert_refused(experiments::create(conn, &named).await, "name", reason);
    drop(named);
    let described = bar().description(bad());
    assert_refused(experiments::create(conn, &described).await, "description", reason);
    drop(described);
    let created = bar().created_by(bad());
    assert_refused(experiments::create(conn, &created).await, "created_by_user_id", reason);
    drop(created);

    let id = ready.experiment.id;
    let renamed = ExperimentChanges::default().name(bad());
    assert_refused(experiments::update(conn, id, &renamed).await, "name", reason);
    drop(renamed);
    let described = ExperimentChanges::default().description(Some(bad()));
    assert_refused(experiments::update(conn, id, &described).await, "description", reason);
    drop(described);

    let (variant, mut text) = (ready.control.id, bad());
    let (upstream, key) = (upstream("rc2"), key("sk"));
    let new = NewVersion::with_key(&upstream, &key).created_by(&text);
    let scheduled = new.effective_at(ready.control_version.effective_at + TimeDelta::hours(1));
    let rotated = NewVersion::keeping_upstream(&key).created_by(&text);
    for new in [new, scheduled, rotated] {
        assert_refused(experiments::publish(conn, variant, new).await, "created_by", reason);
    }

    let listed = recording::list_requests(conn, &text).await;
    assert_refused(listed, "client_request_id", reason);
    let served = feedback::served_by(conn, &["a", &text]).await;
    assert_refused(served, "client_request_id", reason);

    let (mut usage, served) = (Usage::new("user-1"), request(ready.control_version.id));
    type Field = fn(&mut Usage) -> &mut Option<String>;
    for (name, field) in [
        ("provider", (|usage| &mut usage.provider) as Field),
        ("model", |usage| &mut usage.model),
        ("requested_model", |usage| &mut usage.requested_model),
        ("inference_provider", |usage| &mut usage.inference_provider),
        ("project_id", |usage| &mut usage.project_id),
    ] {
        *field(&mut usage) = Some(text);
        // Moved into a record and back: a clone would take the memory that the test measures.
        let record = Record::new(usage, served.clone());
        assert_refused(record::one(conn, &record).await, name, reason);
        usage = record.usage;
        text = field(&mut usage).take().unwrap();
    }
    let of_bad_user = Record::new(Usage { kilo_user_id: text, ..usage.clone() }, served.clone());
    let recorded = record::one(conn, &of_bad_user).await;
    assert_refused(recorded, "kilo_user_id", indexed_reason);
    let text = of_bad_user.usage.kilo_user_id;
    let of_bad_client = Record::new(usage, served.client_request_id(text));
    let recorded = record::one(conn, &of_bad_client).await;
    assert_refused(recorded, "client_request_id", indexed_reason);
    let Record { usage, request } = of_bad_client;
    let attributed = record::attribute(conn, usage.id, &request).await;
    assert_refused(attributed, "client_request_id", indexed_reason);
}

#[tokio::test]
async fn text_of_a_gigabyte_or_with_a_nul_character_is_refused_before_anything_is_sent() {
    let db = TestDatabase::new().await;
    let (conn, watcher) = (&mut db.connect().await, &mut db.connect().await);
    let foo = active(conn, "partner/foo").await;
    let statements = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&statements);
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });

    assert_refused_everywhere(conn, &foo, || "\0".to_owned(), NUL, NUL).await;
    let memory = peak_memory();
    let (long, indexed) = ("must be at most 65536 bytes long", "must be at most 2048 bytes long");
    assert_refused_everywhere(conn, &foo, gigabyte, long, indexed).await;
    assert_not_copied(memory);
    assert_eq!(statements.load(Ordering::Relaxed), 0);
    let expected = Counts { experiments: 1, variants: 2, versions: 2, ..Counts::default() };
    assert_eq!(counts(watcher).await, expected);

    // The connection still works, and the counter counts.
    assert!(experiments::find(conn, foo.experiment.id).await.unwrap().is_some());
    assert_eq!(statements.load(Ordering::Relaxed), 1);
}

#[test]
fn no_value_is_made_of_a_gigabyte() {
    fn refusal<T: FromStr<Err = InvalidValue>>(text: &str) -> Option<String> {
        text.parse::<T>().err().map(|error| error.to_string())
    }
    let memory = peak_memory();
    let text = gigabyte();
    for (refusal, expected) in [
        (refusal::<PublicModelId>(&text), "public model id must be at most 200 characters long"),
        (refusal::<Label>(&text), "label must be at most 64 characters long"),
        (refusal::<VersionId>(&text), "version id must be a UUID"),
        (refusal::<Sha256Digest>(&text), "sha256 must be 64 lower-case hexadecimal digits"),
    ] {
        assert_eq!(refusal.as_deref(), Some(expected));
    }

    let mut body = json!({"messages": [{"role": "system"}, {"role": "user"}]});
    body["messages"][0]["content"] = text.into();
    body["messages"][1]["content"] = gigabyte().into();
    let capture = PromptCapture::of(&body);
    for side in [capture.system_prompt(), capture.request_body()] {
        assert_eq!(side.unwrap().text().len(), CAPTURE_CAP);
    }

    let mut json = json!({"internal_id": "rc1", "base_url": "https://partner.example"});
    json["extra_body"] = body["messages"][0]["content"].take();
    let error = Upstream::from_json(json).unwrap_err();
    assert_eq!(error.to_string(), "upstream must be at most 1 MiB long");
    let mut json = key("sk").to_json();
    json["data"] = body["messages"][1]["content"].take();
    let error = EncryptedApiKey::from_json(json).unwrap_err();
    assert_eq!(error.to_string(), "data must be at most 65536 bytes long");

    let named = options("postgres://db.example/").application_name(gigabyte());
    assert_misconfigured(
        Pool::new(named, PoolOptions::default()),
        "application_name must be at most 2048 bytes long",
    );
    let parsed = ConnectOptions::parse(&gigabyte());
    assert_misconfigured(parsed, "the connection URL must be at most 65536 bytes long");
    assert_not_copied(memory);
}

#[tokio::test]
async fn the_longest_text_is_stored_as_it_was_given() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let longest = "é".repeat(32_768);
    let new = NewExperiment::new(public_model_id("partner/foo"), &longest)
        .description(&longest)
        .created_by(&longest);
    let inserted = experiments::create(conn, &new).await.unwrap();
    let texts = [Some(inserted.name), inserted.description, inserted.created_by_user_id];
    assert!(texts.iter().all(|text| text.as_ref() == Some(&longest)));

    let foo = active(conn, "partner/bar").await;
    let text = || Some(longest.clone());
    let usage = Usage {
        provider: text(),
        model: text(),
        requested_model: text(),
        inference_provider: text(),
        project_id: text(),
        ..Usage::new("user-1")
    };
    let outcome = record_one(conn, &usage, &request(foo.control_version.id)).await;
    assert_eq!(outcome, Ok(Outcome::Recorded));
    assert_eq!(recording::find_usage(conn, usage.id).await, Ok(Some(usage)));

    // An escape is six times as long as what it stands for.
    let escaped = "\u{1}".repeat(Upstream::MAX_BYTES - 100);
    let nested = (2..Upstream::MAX_DEPTH).fold(json!({}), |inner, _| json!([inner]));
    for extra_body in [json!({"a": escaped}), json!({"a": nested})] {
        let mut json = serde_json::to_value(upstream("rc2")).unwrap();
        json["extra_body"] = extra_body;
        let upstream = Upstream::from_json(json).unwrap();
        let key = key(&"x".repeat(49_152));
        let new = NewVersion::with_key(&upstream, &key).created_by(&longest);
        let version = experiments::publish(conn, foo.control.id, new).await.unwrap();
        assert!(version.upstream() == Ok(&upstream) && version.created_by == text());
    }
}

#[tokio::test]
async fn the_first_and_the_last_instant_are_stored_as_they_were_given() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let (id, variant, version) = (foo.experiment.id, foo.control.id, foo.control_version.id);
    let (first, last) = (Timestamp::MIN, Timestamp::MAX);
    for created_at in [first, last] {
        let usage = Usage { created_at, ..Usage::new("user-1") };
        for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            let outcome = record_one(conn, &usage, &request(version)).await;
            assert_eq!(outcome, Ok(expected));
        }
        let stored = recording::find_request(conn, usage.id).await.unwrap().unwrap();
        assert_eq!(stored.created_at, created_at);
        assert_eq!(recording::find_usage(conn, usage.id).await, Ok(Some(usage)));
        // Serde's text of an instant, as a host may hand it on.
        let json = serde_json::to_string(&created_at).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), created_at);
    }
    // A window is half-open.
    for (window, requests) in [(first..last, vec![1]), (last..last, vec![])] {
        let summaries = summary::by_version(conn, id, &window).await.unwrap();
        let counted = summaries.iter().map(|summary| summary.totals.requests).collect::<Vec<_>>();
        assert_eq!(counted, requests);
    }

    let upstream = upstream("last");
    let scheduled = NewVersion::keeping_key(&upstream).effective_at(last);
    let published = experiments::publish(conn, variant, scheduled).await.unwrap();
    assert_eq!(published.effective_at, last);
    let current = experiments::find_version_at(conn, variant, last).await;
    assert_eq!(current, Ok(Some(published)));
    assert_eq!(experiments::find_version_at(conn, variant, first).await, Ok(None));
}

#[tokio::test]
async fn a_page_after_an_instant_beyond_the_year_9999_or_before_1_is_refused() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    // A cursor holds a timestamp, and none can be made of such an instant.
    let before = Timestamp::try_from(DateTime::<Utc>::MIN_UTC).map_err(Error::from);
    assert_refused(before, "timestamp", "must lie in the years 1 to 9999");
    let json = json!({"at": DateTime::<Utc>::MIN_UTC, "id": foo.experiment.id});
    let error = serde_json::from_value::<Cursor<ExperimentId>>(json).unwrap_err();
    assert_eq!(error.to_string(), "timestamp must lie in the years 1 to 9999");

    let (at, all) = (Timestamp::MAX, ExperimentFilter::default());
    let after = Page::after(Cursor { at, id: foo.experiment.id }, 9);
    assert_eq!(experiments::list(conn, &all, after).await, Ok(vec![foo.experiment]));
    let after = Page::after(Cursor { at, id: foo.control_version.id }, 9);
    let history = experiments::list_versions(conn, foo.control.id, after).await;
    assert_eq!(history, Ok(vec![foo.control_version]));
}

#[tokio::test]
async fn an_instant_beyond_the_range_is_read_as_the_end_of_it() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let other = active(conn, "partner/bar").await.experiment;
    let id = foo.experiment.id;
    // As in a deployment whose rows are older than the check.
    unguard(conn).await;
    raw(conn, "ALTER TABLE model_experiment DROP CONSTRAINT model_experiment_instants_valid")
        .await
        .unwrap();
    for (instant, end) in [
        ("infinity", Timestamp::MAX),
        ("-infinity", Timestamp::MIN),
        ("294276-12-31 23:59:59.999999+00", Timestamp::MAX),
        ("10000-01-01 00:00:00+00", Timestamp::MAX),
        ("4714-11-24 00:00:00+00 BC", Timestamp::MIN),
    ] {
        let sql = format!(
            "UPDATE model_experiment SET created_at = '{instant}', updated_at = '{instant}',
             started_at = '{instant}' WHERE id = '{id}'"
        );
        raw(conn, &sql).await.unwrap();
        let found = experiments::find(conn, id).await.unwrap().unwrap();
        assert_eq!((found.created_at, found.updated_at), (end, end), "{instant}");
        assert_eq!(found.started_at, Some(end));
        let page = Page::first(9);
        let listed = experiments::list(conn, &ExperimentFilter::default(), page).await.unwrap();
        assert!(listed.contains(&found) && listed.contains(&other));
    }
}

#[tokio::test]
async fn the_least_and_the_greatest_numbers_are_recorded_exactly() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    let epoch = Timestamp::try_from(DateTime::UNIX_EPOCH).unwrap();
    let window = epoch..Timestamp::MAX;
    // All five sums are the same.
    let total = async |conn: &mut AsyncPgConnection| {
        let summaries = summary::by_version(conn, foo.experiment.id, &window).await?;
        let [VersionSummary { totals, .. }] = &summaries[..] else { panic!("{summaries:?}") };
        assert_eq!(totals.input_tokens, totals.cost);
        assert_eq!(totals.output_tokens, totals.cost);
        assert_eq!(totals.cache_hit_tokens, totals.cost);
        assert_eq!(totals.cache_write_tokens, totals.cost);
        Ok(totals.cost)
    };
    let overflown = "bigint out of range";
    for (number, small, sum) in [
        (i64::MIN, i16::MIN, Ok(i64::MIN)),
        (-1, 0, Err(overflown)),
        (i64::MAX, i16::MAX, Ok(-2)),
        (i64::MAX, -1, Ok(i64::MAX - 2)),
        (2, 1, Ok(i64::MAX)),
        (1, 1, Err(overflown)),
    ] {
        let usage = Usage {
            cost: number,
            input_tokens: number,
            output_tokens: number,
            cache_write_tokens: number,
            cache_hit_tokens: number,
            cache_discount: Some(number),
            abuse_classification: small,
            ..Usage::new("user-1")
        };
        for expected in [Outcome::Recorded, Outcome::AlreadyRecorded] {
            let served = request(foo.control_version.id);
            assert_eq!(record_one(conn, &usage, &served).await, Ok(expected));
        }
        assert_eq!(recording::find_usage(conn, usage.id).await, Ok(Some(usage)));
        match (total(conn).await, sum) {
            (Err(Error::Database(cause)), Err(part)) => assert!(cause.message().contains(part)),
            (total, sum) => assert_eq!(total.ok(), sum.ok(), "after {number}"),
        }
    }
}

#[tokio::test]
async fn json_that_is_nested_deeper_than_can_be_read_is_an_error() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let text = format!(
        r#"{{"internal_id": "a", "base_url": "https://x.example", "extra_body": {{"a": {}}}}}"#,
        deep(100_000)
    );
    assert!(serde_json::from_str::<Upstream>(&text).is_err());

    // PostgreSQL reads deeper than serde_json does.
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let foo = active(conn, "partner/foo").await;
    unguard(conn).await;
    let set = format!(
        "UPDATE model_experiment_variant_version
         SET upstream = jsonb_set(upstream, '{{extra_body}}', '{{\"a\": {}}}')",
        deep(1_000)
    );
    raw(conn, &set).await.unwrap();
    let versions = experiments::list_versions(conn, foo.control.id, Page::first(1)).await.unwrap();
    assert_eq!(versions[0].upstream().unwrap_err().column, "upstream");
    let routed = routing::load(conn, &foo.experiment.public_model_id).await.unwrap().unwrap();
    match routed.route(Subject::user("user-1")) {
        Route::Unavailable(Unavailable::Unreadable { reason, .. }) => {
            assert_eq!(reason.to_string(), "the JSON is too deep, or has a number too large");
        }
        route => panic!("{route:?}"),
    }
}

#[test]
fn a_certificate_file_that_holds_none_is_named() {
    let directory = std::env::temp_dir().join(format!("model-experiments-{}", Uuid::now_v7()));
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("root.pem");
    let pem =
        |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let mut refusals = Vec::new();
    for bytes in [
        Vec::new(),
        vec![0xff, 0xfe, 0],
        vec![b'x'; 1 << 20],
        pem("\u{fffd}").into_bytes(),
        pem("AAAA").into_bytes(),
        pem("AAAA").into_bytes()[..40].to_vec(),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let url =
            format!("postgres://db.example/?sslmode=verify-full&sslrootcert={}", file.display());
        refusals.push(ConnectOptions::parse(&url).map(drop));
    }
    std::fs::remove_dir_all(directory).unwrap();
    for refusal in refusals {
        let Err(Error::Configuration(cause)) = refusal else { panic!("{refusal:?}") };
        let start = format!("sslrootcert {}: ", file.display());
        assert!(cause.message().starts_with(&start), "{cause}");
    }
}
