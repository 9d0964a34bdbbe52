//! The operator's part: create the experiment, and check that a rotated key arrives.

use model_experiments::AsyncPgConnection;
use model_experiments::experiments::{self, NewExperiment, Variant, Version};
use model_experiments::routing::Route;
use model_experiments::secrecy::{ExposeSecret, SecretString};
use model_experiments::serde_json::json;
use model_experiments::values::{ApiKeyCipher, ExperimentId, PublicModelId, Upstream, VariantId};

use crate::Result;
use crate::experiment::{self, NewVariant};
use crate::gateway::{self, Gateway};

/// A draft with its two variants.
pub struct Draft {
    pub id: ExperimentId,
    pub control: StartedVariant,
    pub candidate: StartedVariant,
}

/// A variant with its first version.
pub struct StartedVariant {
    pub variant: Variant,
    pub first_version: Version,
    pub api_key: SecretString,
}

/// The key rotation of a variant, to compare with the keys that routing hands out.
pub struct KeyRotation<'a> {
    pub old_key: &'a SecretString,
    pub new_key: &'a SecretString,
    /// Handed out before the rotation.
    pub served_before: &'a SecretString,
    /// Handed out after the rotation.
    pub served_after: &'a SecretString,
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

/// Creates a draft for `model`, with the variants control and candidate and a version of each.
pub async fn create(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    model: &PublicModelId,
) -> Result<Draft> {
    let new = NewExperiment::new(model.clone(), "Tour: rc1 or rc2");
    let id = experiments::create(conn, &new).await?.id;
    let new = |label, weight, internal_id| -> Result<NewVariant> {
        let (upstream, api_key) = (upstream(internal_id)?, demonstration_key(label));
        Ok(NewVariant { label, weight, upstream, api_key })
    };
    let control = add_variant(conn, cipher, id, new("control", 1, "preview-rc1")?).await?;
    let candidate = add_variant(conn, cipher, id, new("candidate", 3, "preview-rc2")?).await?;
    Ok(Draft { id, control, candidate })
}

async fn add_variant(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    draft: ExperimentId,
    new: NewVariant,
) -> Result<StartedVariant> {
    let (variant, first_version) = experiment::add_variant(conn, cipher, draft, &new).await?;
    Ok(StartedVariant { variant, first_version, api_key: new.api_key })
}

/// The key that routing hands out for `variant`, taken from the route of one of its users.
pub fn served_key(
    gateway: &Gateway<'_>,
    variant: VariantId,
    cipher: &ApiKeyCipher,
) -> Result<SecretString> {
    let served = gateway::users().find_map(|user| match gateway.route(&user) {
        Route::Serve(served) if served.variant == variant => Some(served),
        _ => None,
    });
    let served = served.ok_or_else(|| format!("no user is bucketed into variant {variant}"))?;
    Ok(served.api_key(cipher)?)
}

/// Checks that routing handed out the old key before the rotation and the new key after it.
pub fn check_rotation(rotation: &KeyRotation<'_>) -> Result<()> {
    let KeyRotation { old_key, new_key, served_before, served_after } = rotation;
    let is_same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
    if is_same(served_before, old_key)
        && is_same(served_after, new_key)
        && !is_same(old_key, new_key)
    {
        Ok(())
    } else {
        Err("the key was rotated, but routing does not hand out the new one".into())
    }
}
