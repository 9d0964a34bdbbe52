//! API keys: interoperable with Node's `crypto`, and never shown.

use crate::support::TestDatabase;
use crate::support::fixtures::{API_KEY, active, cipher, key, text, upstream};
use model_experiments::Page;
use model_experiments::experiments::{self, NewVersion};
use model_experiments::reports::overview;
use model_experiments::routing::{self, Subject};
use model_experiments::values::EncryptedApiKey;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

const MASTER: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The output of `script` for `input`; `None` where Node isn't installed.
fn node(script: &str, input: &str) -> Option<String> {
    let child = Command::new("node")
        .args(["-e", script, MASTER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: there is no node to be interoperable with");
        return None;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn node_decrypts_what_is_encrypted_here() {
    const DECRYPT: &str = r"
        const { createDecipheriv } = require('node:crypto');
        const bytes = text => Buffer.from(text, 'base64');
        const key = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
        const decipher = createDecipheriv('aes-256-gcm', bytes(process.argv[1]), bytes(key.iv));
        decipher.setAuthTag(bytes(key.authTag));
        process.stdout.write(Buffer.concat([decipher.update(bytes(key.data)), decipher.final()]));";
    for api_key in ["sk-1", "schlüssel 🔑", &"x".repeat(4_000)] {
        if let Some(decrypted) = node(DECRYPT, &key(api_key).to_json().to_string()) {
            assert_eq!(decrypted, api_key);
        }
    }
}

#[test]
fn what_node_encrypts_is_decrypted_here() {
    const ENCRYPT: &str = r"
        const { createCipheriv, randomBytes } = require('node:crypto');
        const iv = randomBytes(12);
        const cipher = createCipheriv('aes-256-gcm', Buffer.from(process.argv[1], 'base64'), iv);
        const plain = require('node:fs').readFileSync(0);
        const data = Buffer.concat([cipher.update(plain), cipher.final()]).toString('base64');
        const authTag = cipher.getAuthTag().toString('base64');
        process.stdout.write(JSON.stringify({ iv: iv.toString('base64'), data, authTag }));";
    for api_key in ["sk-1", "schlüssel 🔑", &"x".repeat(4_000)] {
        if let Some(encrypted) = node(ENCRYPT, api_key) {
            let json: Value = serde_json::from_str(&encrypted).unwrap();
            let encrypted = EncryptedApiKey::from_json(json).unwrap();
            let decrypted: SecretString = cipher().decrypt(&encrypted).unwrap();
            assert_eq!(decrypted.expose_secret(), api_key);
        }
    }
}

#[tokio::test]
async fn a_key_is_stored_as_three_base64_texts() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let variant = active(conn, "partner/foo").await.control.id;
    let (upstream, key) = (upstream("rc2"), key("sk-2"));
    experiments::publish(conn, variant, NewVersion::with_key(&upstream, &key)).await.unwrap();
    let newest = "SELECT encrypted_api_key::text AS text FROM model_experiment_variant_version
        ORDER BY effective_at DESC LIMIT 1";
    let stored: Value = serde_json::from_str(&text(conn, newest).await).unwrap();
    assert_eq!(stored, key.to_json());
}

#[tokio::test]
async fn nothing_that_is_read_shows_a_key_in_any_form() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let active = active(conn, "partner/foo").await;
    let (id, variant) = (active.experiment.id, active.control.id);
    let overview = overview::of_experiment(conn, id).await.unwrap();
    let history = experiments::list_versions(conn, variant, Page::first(9)).await.unwrap();
    let routed = routing::load(conn, &active.experiment.public_model_id).await.unwrap().unwrap();
    let route = routed.route(Subject::user("u"));
    let (upstream, key) = (upstream("rc2"), key(API_KEY));
    let shown = [
        format!("{overview:?} {history:?} {routed:?} {route:?}"),
        format!("{:?} {:?}", NewVersion::with_key(&upstream, &key), cipher()),
        serde_json::to_string(&(overview, history)).unwrap(),
    ]
    .concat();
    assert!(shown.contains("control") && shown.contains("rc1 or rc2"));

    let keys = "SELECT string_agg(value, ' ') AS text FROM model_experiment_variant_version,
        jsonb_each_text(encrypted_api_key)";
    let stored = text(conn, keys).await;
    assert_eq!(stored.split(' ').count(), 6);
    for secret in stored.split(' ').chain([API_KEY, MASTER]) {
        assert!(!shown.contains(secret));
    }
}
