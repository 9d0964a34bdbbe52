//! The experiment to try, and the commands that try it.

use model_experiments::experiments::{self, NewExperiment};
use model_experiments::routing::{Route, Subject};
use model_experiments::secrecy::SecretString;
use model_experiments::serde_json::json;
use model_experiments::values::{ApiKeyCipher, ExperimentId, PublicModelId, Upstream, VariantId};
use model_experiments::{AsyncPgConnection, RoutingCache};
use std::net::SocketAddr;

use crate::Result;
use crate::admin::Operator;
use crate::checkpoint::Checkpoint;
use crate::experiment::{self, NewVariant};
use crate::fake_upstream::{CANDIDATE, CONTROL, HOUSE, NEXT_CANDIDATE};

/// An active experiment.
pub struct Demonstration {
    pub id: ExperimentId,
    model: PublicModelId,
    candidate: VariantId,
}

/// The model that is served without an experiment, under its own name.
pub fn house(url: &str) -> Result<Checkpoint> {
    let upstream = json!({"internal_id": HOUSE.id, "base_url": format!("{url}/v1")});
    let api_key = SecretString::from(HOUSE.key);
    Ok(Checkpoint { upstream: Upstream::from_json(upstream)?, api_key })
}

/// Activates an experiment on the upstream at `url`, with the variants control and candidate.
pub async fn create(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    url: &str,
) -> Result<Demonstration> {
    let model = experiment::public_model_id("demo")?;
    let new = NewExperiment::new(model.clone(), "Gateway: rc1 or rc2");
    let id = experiments::create(conn, &new).await?.id;
    let base_url = format!("{url}/v1");
    let control = NewVariant {
        label: "control",
        weight: 1,
        upstream: Upstream::from_json(json!({
            "internal_id": CONTROL.id,
            "base_url": base_url,
            "remove_from_body": ["user"],
            "extra_body": {"temperature": 0.2},
        }))?,
        api_key: SecretString::from(CONTROL.key),
    };
    let candidate = NewVariant {
        label: "candidate",
        weight: 3,
        upstream: Upstream::from_json(json!({
            "internal_id": CANDIDATE.id,
            "base_url": base_url,
            "remove_from_body": ["user", "logprobs"],
            "extra_body": {"temperature": 0.7, "reasoning_effort": "high"},
        }))?,
        api_key: SecretString::from(CANDIDATE.key),
    };
    experiment::add_variant(conn, cipher, id, &control).await?;
    let (candidate, _) = experiment::add_variant(conn, cipher, id, &candidate).await?;
    experiments::activate(conn, id).await?;
    Ok(Demonstration { id, model, candidate: candidate.id })
}

/// Prints the addresses and the commands to try.
pub fn print_commands(
    address: SocketAddr,
    upstream: &str,
    experiment: &Demonstration,
    routing: &RoutingCache,
    operator: &Operator,
) {
    let model = experiment.model.as_str();
    // A user of candidate, whom the swap below affects.
    let is_candidate = |user: &String| {
        let route = routing.pick(model, Subject::user(user.as_str()));
        matches!(route, Route::Serve(served) if served.variant == experiment.candidate)
    };
    let user = (1..1_000).map(|at| format!("user-{at}")).find(is_candidate).unwrap_or_default();
    let authorization = operator.authorization();
    let admin = format!("-X POST -H 'Authorization: {authorization}'");
    let next_checkpoint = NEXT_CANDIDATE.id;
    println!(
        "\
Gateway on http://{address}, upstream on {upstream}

Chat as a user of the variant candidate:
  curl http://{address}/v1/chat/completions -H 'x-user-id: {user}' -d '{{\"model\": \"{model}\", \
\"temperature\": 1, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'
List the calls that the upstream got, which no client sees:
  curl {upstream}/calls
Swap the checkpoint behind candidate, then chat again:
  curl {admin} http://{address}/admin/variants/candidate/versions \
-H 'Content-Type: application/json' \
-d '{{\"internal_id\": \"{next_checkpoint}\", \"base_url\": \"{upstream}/v1\"}}'
Pause and resume the experiment:
  curl {admin} http://{address}/admin/pause
  curl {admin} http://{address}/admin/resume
Show what each version served, and the metrics:
  curl -H 'Authorization: {authorization}' http://{address}/admin/summary
  curl http://{address}/metrics
"
    );
}
