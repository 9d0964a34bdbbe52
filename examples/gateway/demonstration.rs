//! What there is to try: an experiment on the fake upstream, and what to ask.

use diesel_async::AsyncPgConnection;
use model_experiments::RoutingCache;
use model_experiments::experiments::{self, NewExperiment, NewVersion};
use model_experiments::routing::{Route, Subject};
use model_experiments::values::{
    ApiKeyCipher, ExperimentId, Label, PublicModelId, Upstream, VariantId, Weight,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::net::SocketAddr;
use uuid::Uuid;

use crate::Result;
use crate::admin::Operator;
use crate::checkpoint::Checkpoint;
use crate::fake_upstream::MODELS;

/// An experiment that was activated.
pub struct Demonstration {
    pub id: ExperimentId,
    model: PublicModelId,
    candidate: VariantId,
}

/// A cipher under a master key that is for demonstration only: it is no secret.
pub fn cipher() -> Result<ApiKeyCipher> {
    let master_key = SecretString::from("ZGVtb25zdHJhdGlvbiBvbmx5LCBub3QgYSBzZWNyZXQ=");
    Ok(ApiKeyCipher::new(&master_key)?)
}

/// The model that clients know by its own name.
pub fn house(url: &str) -> Result<Checkpoint> {
    let (model, [key, _]) = MODELS[3];
    let upstream = json!({"internal_id": model, "base_url": format!("{url}/v1")});
    Ok(Checkpoint { upstream: Upstream::from_json(upstream)?, key: SecretString::from(key) })
}

/// Activates an experiment on the upstream at `url`, with the variants control and candidate. Its public model id is
/// another each time, so that the example runs again and again on the same database.
pub async fn create(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    url: &str,
) -> Result<Demonstration> {
    // A UUIDv7 ends with random digits.
    let model =
        PublicModelId::new(format!("demo/preview-{}", &Uuid::now_v7().simple().to_string()[24..]))?;
    let new = NewExperiment::new(model.clone(), "Gateway: rc1 or rc2");
    let id = experiments::create(conn, &new).await?.id;
    let base_url = format!("{url}/v1");
    let control = json!({
        "internal_id": MODELS[0].0,
        "base_url": base_url,
        "remove_from_body": ["user"],
        "extra_body": {"temperature": 0.2},
    });
    let candidate = json!({
        "internal_id": MODELS[1].0,
        "base_url": base_url,
        "remove_from_body": ["user", "logprobs"],
        "extra_body": {"temperature": 0.7, "reasoning_effort": "high"},
    });
    let [control_key, candidate_key] = [MODELS[0].1[0], MODELS[1].1[0]].map(SecretString::from);
    variant(conn, cipher, id, ("control", 1), control, control_key).await?;
    let candidate = variant(conn, cipher, id, ("candidate", 3), candidate, candidate_key).await?;
    experiments::activate(conn, id).await?;
    Ok(Demonstration { id, model, candidate })
}

async fn variant(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    experiment: ExperimentId,
    (label, weight): (&str, i32),
    upstream: Value,
    api_key: SecretString,
) -> Result<VariantId> {
    let (label, weight) = (Label::new(label)?, Weight::new(weight)?);
    let id = experiments::add_variant(conn, experiment, &label, weight).await?.id;
    let (upstream, key) = (Upstream::from_json(upstream)?, cipher.encrypt(&api_key)?);
    experiments::publish(conn, id, NewVersion::with_key(&upstream, &key)).await?;
    Ok(id)
}

/// Prints where everything is, and what to ask.
pub fn say_what_to_try(
    address: SocketAddr,
    upstream: &str,
    experiment: &Demonstration,
    routing: &RoutingCache,
    operator: &Operator,
) {
    let model = experiment.model.as_str();
    // Somebody whom the swap concerns.
    let is_candidate = |user: &String| {
        let route = routing.pick(model, Subject::user(user));
        matches!(route, Route::Serve(served) if served.variant == experiment.candidate)
    };
    let user = (1..1_000).map(|at| format!("user-{at}")).find(is_candidate).unwrap_or_default();
    let admin = format!("-X POST -H 'Authorization: {}'", operator.authorization());
    println!(
        "\
Gateway on http://{address}, upstream on {upstream}

A chat request, of a user whom candidate serves:
  curl http://{address}/v1/chat/completions -H 'x-user-id: {user}' -d '{{\"model\": \"{model}\", \
\"temperature\": 1, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'
What the upstream was called with, which no client learns:
  curl {upstream}/calls
Swap the checkpoint that candidate serves, and ask again:
  curl {admin} http://{address}/admin/variants/candidate/versions -H 'Content-Type: application/json' \
-d '{{\"internal_id\": \"{}\", \"base_url\": \"{upstream}/v1\"}}'
Pause, and resume:
  curl {admin} http://{address}/admin/pause
  curl {admin} http://{address}/admin/resume
What each version served, and how routing does:
  curl -H 'Authorization: {}' http://{address}/admin/summary
  curl http://{address}/metrics
",
        MODELS[2].0,
        operator.authorization(),
    );
}
