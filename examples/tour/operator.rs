//! What an operator does: setting the experiment up, and changing what its variants serve.

use diesel_async::AsyncPgConnection;
use model_experiments::experiments::{self, NewExperiment, Variant, Version};
use model_experiments::routing::Route;
use model_experiments::values::{
    ApiKeyCipher, ExperimentId, Label, PublicModelId, Upstream, VariantId, Weight,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::Result;
use crate::gateway::{self, Gateway};

/// A variant as it began.
pub struct Arm {
    pub variant: Variant,
    pub first: Version,
    pub key: SecretString,
}

/// A cipher under a master key that is for demonstration only: it is no secret.
pub fn demonstration_cipher() -> Result<ApiKeyCipher> {
    let master_key = SecretString::from("ZGVtb25zdHJhdGlvbiBvbmx5LCBub3QgYSBzZWNyZXQ=");
    Ok(ApiKeyCipher::new(&master_key)?)
}

/// An API key that opens nothing.
pub fn demonstration_key(name: &str) -> SecretString {
    SecretString::from(format!("demonstration key of {name}"))
}

/// The checkpoint `internal_id` of a partner that doesn't exist.
pub fn upstream(internal_id: &str) -> Result<Upstream> {
    Ok(Upstream::from_json(json!({
        "internal_id": internal_id,
        "base_url": "https://partner.example/v1",
    }))?)
}

/// A draft behind `model`, with the variants control and candidate, each with its first version.
pub async fn create(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    model: &PublicModelId,
) -> Result<(ExperimentId, [Arm; 2])> {
    let new = NewExperiment::new(model.clone(), "Tour: rc1 or rc2");
    let draft = experiments::create(conn, &new).await?;
    let control = arm(conn, cipher, draft.id, ("control", 1, "preview-rc1")).await?;
    let candidate = arm(conn, cipher, draft.id, ("candidate", 3, "preview-rc2")).await?;
    Ok((draft.id, [control, candidate]))
}

async fn arm(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    draft: ExperimentId,
    (label, weight, internal_id): (&str, i32, &str),
) -> Result<Arm> {
    let key = demonstration_key(label);
    let variant =
        experiments::add_variant(conn, draft, &Label::new(label)?, Weight::new(weight)?).await?;
    let (upstream, encrypted) = (upstream(internal_id)?, cipher.encrypt(&key)?);
    let new = NewVersion::with_key(&upstream, &encrypted);
    let first = experiments::publish(conn, variant.id, new).await?;
    Ok(Arm { variant, first, key })
}

/// The key that `variant` is called with, found by routing a user who is bucketed into it.
pub fn key_of(
    gateway: &Gateway<'_>,
    variant: VariantId,
    cipher: &ApiKeyCipher,
) -> Result<SecretString> {
    let served = gateway::users().find_map(|user| match gateway.route(&user) {
        Route::Serve(served) if served.variant == variant => Some(served),
        _ => None,
    });
    let served = served.ok_or_else(|| format!("no user is bucketed into variant {variant}"))?;
    Ok(cipher.decrypt(served.key())?)
}

/// Checks that a variant was called with the old key, and is called with the new one.
pub fn check_rotation(
    (was, old): (&SecretString, &SecretString),
    (is, new): (&SecretString, &SecretString),
) -> Result<()> {
    let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
    if same(was, old) && same(is, new) && !same(old, new) {
        Ok(())
    } else {
        Err("the key was rotated, but routing doesn't hand out the new one".into())
    }
}
