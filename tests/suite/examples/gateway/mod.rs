//! The example `gateway`, driven over HTTP as its reader drives it.

mod process;
mod upstream;

use crate::support::TestDatabase;
use crate::support::fixtures::{
    Counts, Recorded, counts, eventually, free_port, number, picked, raw, recorded, text, unguard,
    until_blocked,
};
use diesel_async::AsyncPgConnection;
use model_experiments::Page;
use model_experiments::experiments::{self, Version};
use model_experiments::recording::{self, Request, Usage};
use model_experiments::routing::Subject;
use model_experiments::values::{ExperimentId, PromptCapture, VersionId};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::examples::gateway::process::{Answer, Gateway, KEYS, LONG, PROMPT};
use crate::examples::gateway::upstream::Upstream;

/// Keeps usages from being recorded, until it is rolled back.
const LOCK_USAGES: &str = "BEGIN; LOCK TABLE microdollar_usage";

/// Terminates the connections of the gateway, and counts them.
const CUT_CONNECTIONS: &str = "SELECT count(pg_terminate_backend(pid)) AS number
    FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gateway'";

fn users() -> impl Iterator<Item = String> {
    (0..40).map(|at| format!("user-{at}"))
}

async fn experiment(conn: &mut AsyncPgConnection, model: &str) -> ExperimentId {
    let sql =
        format!("SELECT id::text AS text FROM model_experiment WHERE public_model_id = '{model}'");
    text(conn, &sql).await.parse().unwrap()
}

/// Every version of the experiment behind `model`.
async fn history(conn: &mut AsyncPgConnection, model: &str) -> HashMap<VersionId, Version> {
    let experiment = experiment(conn, model).await;
    let mut all = HashMap::new();
    for variant in experiments::list_variants(conn, experiment).await.unwrap() {
        let versions = experiments::list_versions(conn, variant.id, Page::first(99)).await.unwrap();
        all.extend(versions.into_iter().map(|version| (version.id, version)));
    }
    all
}

/// What is recorded of the request with this answer. Waits until it is.
async fn record_of(conn: &mut AsyncPgConnection, answer: &Answer) -> (Usage, Request) {
    let mut found = Vec::new();
    eventually("the request is recorded", async || {
        found = recording::list_requests(conn, answer.request_id()).await.unwrap();
        !found.is_empty()
    })
    .await;
    assert_eq!(found.len(), 1);
    let request = found.remove(0);
    (recording::find_usage(conn, request.usage_id).await.unwrap().unwrap(), request)
}

/// Fails if the answer reveals what served it, or has a header that might.
fn assert_reveals_nothing(answer: &Answer, secrets: &[String]) {
    let names: BTreeSet<_> = answer.headers.keys().map(|name| name.as_str()).collect();
    let may = ["content-length", "content-type", "date", "retry-after", "x-request-id"];
    assert!(names.is_subset(&may.into()), "{answer:?}");
    let shown = format!("{answer:?}");
    for secret in secrets.iter().map(String::as_str).chain([KEYS, "rc", "partner"]) {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

/// Texts that a client must not learn.
async fn secrets(conn: &mut AsyncPgConnection, gateway: &Gateway) -> Vec<String> {
    let mut secrets = vec![experiment(conn, &gateway.model).await.to_string()];
    for (id, version) in history(conn, &gateway.model).await {
        let upstream = version.upstream().unwrap();
        secrets.extend([id.to_string(), version.variant_id.to_string()]);
        secrets.extend([upstream.internal_id(), upstream.base_url()].map(str::to_owned));
    }
    secrets.extend(["control", "candidate", &gateway.upstream].map(str::to_owned));
    secrets
}

/// The users by the model that the fake upstream says served them.
async fn served_by(gateway: &Gateway) -> HashMap<String, String> {
    let mut models = HashMap::new();
    for user in users() {
        let answer = gateway.ask(&user).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let call = gateway.call_of(&answer).await;
        models.insert(user, call.body["model"].as_str().unwrap().to_owned());
    }
    models
}

/// A user whom the model serves.
fn user_of<'a>(models: &'a HashMap<String, String>, model: &str) -> &'a str {
    models.iter().find_map(|(user, of)| (of == model).then_some(user)).unwrap()
}

#[tokio::test]
async fn every_request_is_transformed_served_and_attributed_and_reveals_nothing() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let gateway = Gateway::start(&db).await;
    let history = history(conn, &gateway.model).await;
    let secrets = secrets(conn, &gateway).await;
    let experiment = experiment(conn, &gateway.model).await;
    let variants = experiments::list_variants(conn, experiment).await.unwrap();

    let mut served = HashMap::<_, u32>::new();
    for (at, user) in users().enumerate() {
        let mut body = gateway.body();
        let mut request = gateway.chat();
        // The subject, and what else is known of the client.
        let subject = match at % 4 {
            0 => {
                body["user"] = json!("somebody else");
                request = request.header("x-user-id", &user).header("x-machine-id", "m");
                Subject::user(user.as_str())
            }
            1 => {
                body["user"] = json!(user);
                request = request.header("x-machine-id", "m");
                Subject::user(user.as_str())
            }
            2 => {
                request = request.header("x-machine-id", &user);
                Subject::machine(user.as_str())
            }
            _ => Subject::ip("127.0.0.1"),
        };
        let answer = Answer::of(request.json(&body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_reveals_nothing(&answer, &secrets);
        let said = answer.json();
        let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&said), ["choices", "created", "id", "model", "object", "usage"]);
        let choice = &said["choices"][0];
        assert_eq!(fields(choice), ["finish_reason", "index", "message"]);
        assert_eq!(fields(&choice["message"]), ["content", "role"]);
        assert_eq!(said["model"], gateway.model);

        let (usage, recorded) = record_of(conn, &answer).await;
        let version = &history[&recorded.variant_version_id];
        assert_eq!(version.variant_id, picked(experiment, &variants, subject).id);
        *served.entry(version.upstream().unwrap().internal_id()).or_default() += 1;

        let call = gateway.call_of(&answer).await;
        let mut expected = body.clone();
        expected["model"] = json!(version.upstream().unwrap().internal_id());
        let expected = expected.as_object_mut().unwrap();
        expected.remove("messages").unwrap();
        let removed = version.upstream().unwrap().remove_from_body();
        assert!(!removed.is_empty());
        expected.retain(|name, _| !removed.contains(name));
        let added = version.upstream().unwrap().extra_body().unwrap();
        assert!(added.contains_key("temperature"), "it changes nothing that was sent");
        expected.extend(added);
        assert_eq!((&call.body, call.key), (&*expected, 1));

        let capture = PromptCapture::of(&body);
        assert_eq!(Some(recorded.allocation_subject), subject.kind());
        assert_eq!(recorded.system_prompt_sha256, capture.system_prompt_ref());
        assert_eq!(recorded.request_body_sha256, capture.request_body_ref());
        assert_eq!(Some(usage.kilo_user_id.as_str()), subject.value());
        assert_eq!(usage.model.as_deref(), Some(version.upstream().unwrap().internal_id()));
        assert_eq!(usage.requested_model.as_deref(), Some(&*gateway.model));
        assert_eq!(usage.input_tokens, said["usage"]["prompt_tokens"]);
        assert_eq!(usage.output_tokens, said["usage"]["completion_tokens"]);
        assert!(usage.input_tokens > 0 && usage.output_tokens > 0 && !usage.has_error);
    }
    assert_eq!(served.len(), 2, "{served:?}");

    let metrics = gateway.get("metrics").await.text;
    assert!(metrics.contains("model_experiments_routing_picks_total{outcome=\"served\"}"));
    gateway.end().await;
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, usages: 40, requests: 40 }
    );
    for table in
        ["experiment", "experiment_variant", "experiment_variant_version", "experiment_request"]
    {
        let sql = format!("SELECT string_agg(t::text, ' ') AS text FROM model_{table} t");
        let rows = text(conn, &sql).await;
        assert!(!rows.contains(PROMPT) && !rows.contains(KEYS), "{rows}");
    }
    let rows = text(conn, "SELECT string_agg(t::text, ' ') AS text FROM microdollar_usage t").await;
    assert!(!rows.contains(PROMPT) && !rows.contains(KEYS), "{rows}");
}

#[tokio::test]
async fn a_checkpoint_is_swapped_and_a_key_rotated_under_way_and_no_user_moves() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let gateway = Gateway::start(&db).await;
    let before = served_by(&gateway).await;
    let models: BTreeSet<_> = before.values().map(String::as_str).collect();
    assert_eq!(models, ["preview-rc1", "preview-rc2"].into());
    let (control, candidate) = (user_of(&before, "preview-rc1"), user_of(&before, "preview-rc2"));

    let base_url = format!("{}/v1/", gateway.upstream);
    let rc3 = json!({"internal_id": "preview-rc3", "base_url": base_url});
    let swapped = gateway.publish("candidate", rc3).await;
    let rotated = json!({
        "internal_id": "preview-rc1",
        "base_url": base_url,
        "api_key": format!("{KEYS}control-2"),
    });
    let rotated = gateway.publish("control", rotated).await;
    for (user, model, key) in [(candidate, "preview-rc3", 1), (control, "preview-rc1", 2)] {
        eventually("the new version serves", async || {
            let answer = gateway.ask(user).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let call = gateway.call_of(&answer).await;
            call.body["model"] == model && call.key == key
        })
        .await;
    }

    for user in users() {
        let answer = gateway.ask(&user).await;
        assert_reveals_nothing(&answer, &secrets(conn, &gateway).await);
        let call = gateway.call_of(&answer).await;
        let (_, recorded) = record_of(conn, &answer).await;
        let (model, key, version) = match &*before[&user] {
            "preview-rc1" => ("preview-rc1", 2, rotated),
            _ => ("preview-rc3", 1, swapped),
        };
        assert_eq!((call.body["model"].as_str().unwrap(), call.key), (model, key));
        assert_eq!(recorded.variant_version_id, version);
    }

    let summary = gateway.get("admin/summary").await.json();
    let summary = summary.as_array().unwrap();
    assert_eq!(summary.len(), 4, "{summary:?}");
    for served in summary {
        let version = served["version"].as_str().unwrap();
        let sql = format!(
            "SELECT count(*) AS number FROM model_experiment_request
             WHERE variant_version_id = '{version}'"
        );
        assert_eq!(served["totals"]["requests"], number(conn, &sql).await);
        assert_eq!(served["totals"]["errors"], 0);
    }
    gateway.end().await;
}

#[tokio::test]
async fn a_paused_model_is_not_found_and_an_unreadable_one_is_unavailable() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let gateway = Gateway::start(&db).await;
    let secrets = secrets(conn, &gateway).await;
    let mut answered = 0;
    for (operation, status) in [("pause", StatusCode::NOT_FOUND), ("resume", StatusCode::OK)] {
        assert_eq!(Answer::of(gateway.operate(operation)).await.status, StatusCode::OK);
        eventually(operation, async || {
            let answer = gateway.ask("user-1").await;
            assert_reveals_nothing(&answer, &secrets);
            answered += i64::from(answer.status == StatusCode::OK);
            if answer.status == StatusCode::NOT_FOUND {
                // The answer is the same as for an unknown model.
                let mut unknown = gateway.body();
                unknown["model"] = json!("nobody/knows");
                let unknown = Answer::of(gateway.chat().json(&unknown)).await;
                assert_eq!(unknown.status, StatusCode::NOT_FOUND);
                assert_eq!(answer.text.replace(&gateway.model, "nobody/knows"), unknown.text);
            }
            answer.status == status
        })
        .await;
    }

    unguard(conn).await;
    let sql = format!(
        "UPDATE model_experiment_variant_version SET upstream = '[]'
            WHERE upstream ->> 'internal_id' = 'preview-rc1';
         SELECT pg_notify('model_experiment_routing', '{}')",
        gateway.model
    );
    raw(conn, &sql).await.unwrap();
    eventually("it is unavailable", async || {
        let answer = gateway.ask("user-1").await;
        answered += i64::from(answer.status == StatusCode::OK);
        answer.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    for user in users() {
        let answer = gateway.ask(&user).await;
        assert_reveals_nothing(&answer, &secrets);
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    }
    gateway.end().await;
    assert_eq!(recorded(conn).await, Recorded::both(answered));
}

#[tokio::test]
async fn a_failure_of_the_upstream_is_recorded_and_not_revealed() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let gateway = Gateway::start_with(&db, &["--upstream-timeout", "1"]).await;
    let upstream = Upstream::start().await;
    let models = served_by(&gateway).await;
    let (control, user) = (user_of(&models, "preview-rc1"), user_of(&models, "preview-rc2"));
    let failing = |path: &str| format!("{}/{path}", upstream.url);
    let wrong_key = Some(format!("{KEYS}wrong"));
    for (base_url, api_key, status) in [
        (format!("http://127.0.0.1:{}/v1", free_port()), None, StatusCode::BAD_GATEWAY),
        (format!("{}/v1", gateway.upstream), wrong_key, StatusCode::BAD_GATEWAY),
        (failing("error"), None, StatusCode::BAD_GATEWAY),
        (failing("refusal"), None, StatusCode::BAD_GATEWAY),
        (failing("redirect"), None, StatusCode::BAD_GATEWAY),
        (failing("text"), None, StatusCode::BAD_GATEWAY),
        (failing("other"), None, StatusCode::BAD_GATEWAY),
        (failing("silent"), None, StatusCode::GATEWAY_TIMEOUT),
    ] {
        let mut new = json!({"internal_id": "preview-rc2", "base_url": base_url});
        if let Some(api_key) = api_key {
            new["api_key"] = json!(api_key);
        }
        let version = gateway.publish("candidate", new).await;
        let secrets = secrets(conn, &gateway).await;
        eventually("the failing version serves", async || {
            let answer = gateway.ask(user).await;
            let (usage, request) = record_of(conn, &answer).await;
            if request.variant_version_id != version {
                return false;
            }
            assert_reveals_nothing(&answer, &secrets);
            assert_eq!((answer.status, usage.has_error), (status, true), "{base_url}");
            assert_eq!((usage.input_tokens, usage.output_tokens, usage.cost), (0, 0, 0));
            true
        })
        .await;
    }
    assert_eq!(upstream.redirected.available_permits(), 0, "a key was sent elsewhere");
    assert_eq!(gateway.ask(control).await.status, StatusCode::OK);
    gateway.end().await;
}

#[tokio::test]
async fn a_bad_request_is_refused_and_other_models_are_served_without_experiments() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let gateway = Gateway::start(&db).await;
    let but = |name: &str, value: Value| {
        let mut body = gateway.body();
        body[name] = value;
        body.to_string()
    };
    for body in [
        String::new(),
        "{".to_owned(),
        format!("{} {PROMPT}", gateway.body()),
        "[]".to_owned(),
        "\"model\"".to_owned(),
        "[".repeat(100_000),
        but("model", Value::Null),
        but("model", json!([gateway.model])),
        but("stream", json!(true)),
        but("stream", json!("yes")),
        but("user", json!("u".repeat(300))),
        but("user", json!("u\0")),
    ] {
        let answer = Answer::of(gateway.chat().body(body.clone())).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let error = &answer.json()["error"];
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert!(!answer.text.contains(PROMPT) && !answer.request_id().is_empty());
    }
    // An internal id doesn't bypass the experiment.
    for (model, status) in [
        ("nobody/knows", StatusCode::NOT_FOUND),
        ("preview-rc1", StatusCode::NOT_FOUND),
        ("", StatusCode::NOT_FOUND),
        ("house/standard", StatusCode::OK),
    ] {
        let answer = Answer::of(gateway.chat().body(but("model", json!(model)))).await;
        assert_eq!(answer.status, status, "{model}");
        let said = answer.json();
        if status == StatusCode::OK {
            assert_eq!(said["model"], model);
            // As it was sent.
            let mut sent = gateway.call_of(&answer).await.body;
            sent.insert("messages".to_owned(), gateway.body()["messages"].clone());
            assert_eq!(Value::Object(sent).to_string(), but("model", json!(model)));
        } else {
            assert_eq!(said["error"]["code"], "model_not_found");
        }
    }

    for (path, token) in [("pause", ""), ("pause", "Bearer x"), ("variants/control/versions", "")] {
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.post(format!("{}/admin/{path}", gateway.url));
        let answer = Answer::of(request.header("authorization", token).json(&json!({}))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let upstream = json!({"internal_id": "preview-rc3", "base_url": "https://partner.example"});
    let mut with_key = upstream.clone();
    with_key["extra_body"] = json!({"api_key": "x"});
    for (label, new, status, reason) in [
        ("nobody", upstream.clone(), StatusCode::NOT_FOUND, "there is no variant nobody"),
        ("control", json!({}), StatusCode::BAD_REQUEST, "upstream.internal_id is missing"),
        ("control", with_key, StatusCode::BAD_REQUEST, "looks like a credential"),
    ] {
        let path = format!("variants/{label}/versions");
        let answer = Answer::of(gateway.operate(&path).json(&new)).await;
        assert_eq!(answer.status, status);
        assert!(answer.text.contains(reason), "{answer:?}");
    }
    gateway.end().await;
    assert_eq!(
        counts(conn).await,
        Counts { experiments: 1, variants: 2, versions: 2, ..Counts::default() }
    );
}

#[tokio::test]
async fn ends_when_every_request_is_answered_and_recorded() {
    let db = TestDatabase::new().await;
    let (conn, watcher) = (&mut db.connect().await, &mut db.connect().await);
    let gateway = Gateway::start(&db).await;
    let upstream = Upstream::start().await;
    let base_url = format!("{}/held", upstream.url);
    let held = json!({"internal_id": "preview-rc3", "base_url": base_url});
    gateway.publish("candidate", held.clone()).await;
    gateway.publish("control", held).await;
    let arrived = async || {
        timeout(LONG, upstream.arrived.acquire()).await.unwrap().unwrap().forget();
    };

    // A client that hangs up. Those before it were served by the versions before.
    let mut earlier = 0;
    eventually("the held upstream serves", async || {
        tokio::select! {
            answer = gateway.ask("user-1") => {
                assert_eq!(answer.status, StatusCode::OK);
                earlier += 1;
                false
            }
            () = arrived() => true,
        }
    })
    .await;
    // A client that waits, whom the same variant serves.
    let waiting = gateway.chat().header("x-user-id", "user-1").json(&gateway.body());
    let waiting = tokio::spawn(Answer::of(waiting));
    arrived().await;

    gateway.terminate().await;
    let address = gateway.url.strip_prefix("http://").unwrap();
    eventually("nobody is let in", async || TcpStream::connect(address).await.is_err()).await;
    raw(conn, LOCK_USAGES).await.unwrap();
    upstream.released.add_permits(2);
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "At last.");
    // Only recording is left, which fails at first.
    until_blocked(watcher).await;
    assert!(number(watcher, CUT_CONNECTIONS).await > 0);
    raw(conn, "ROLLBACK").await.unwrap();
    gateway.ended().await;

    record_of(conn, &answer).await;
    assert_eq!(recorded(conn).await, Recorded::both(earlier + 2));
    let sql = "SELECT count(*) AS number FROM microdollar_usage
        WHERE model = 'preview-rc3' AND output_tokens = 2";
    assert_eq!(number(conn, sql).await, 2);
    let sql = "SELECT count(*) AS number FROM model_experiment WHERE status = 'completed'";
    assert_eq!(number(conn, sql).await, 1);
}

#[tokio::test]
async fn trouble_with_recording_reaches_no_client_and_records_nothing_twice() {
    let db = TestDatabase::new().await;
    let (conn, watcher) = (&mut db.connect().await, &mut db.connect().await);
    let gateway = Gateway::start(&db).await;
    raw(conn, LOCK_USAGES).await.unwrap();
    let answer = gateway.ask("user-1").await;
    assert_eq!(answer.status, StatusCode::OK);
    until_blocked(watcher).await;
    assert!(number(watcher, CUT_CONNECTIONS).await > 0);
    eventually("it tries again", async || {
        number(watcher, "SELECT 1::bigint AS number").await;
        gateway.has_printed("will be retried")
    })
    .await;
    raw(conn, "ROLLBACK").await.unwrap();
    record_of(conn, &answer).await;

    // A missing table is waited for, too.
    raw(conn, "ALTER TABLE microdollar_usage RENAME TO elsewhere").await.unwrap();
    let answer = gateway.ask("user-1").await;
    assert_eq!(answer.status, StatusCode::OK);
    eventually("it tries again", async || {
        number(watcher, "SELECT 1::bigint AS number").await;
        gateway.has_printed("does not exist")
    })
    .await;
    raw(conn, "ALTER TABLE elsewhere RENAME TO microdollar_usage").await.unwrap();
    record_of(conn, &answer).await;
    gateway.end().await;
    assert_eq!(recorded(conn).await, Recorded::both(2));
}
