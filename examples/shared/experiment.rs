//! The parts of an experiment that both examples need.

use model_experiments::AsyncPgConnection;
use model_experiments::experiments::{self, NewVersion, Variant, Version};
use model_experiments::secrecy::SecretString;
use model_experiments::uuid::Uuid;
use model_experiments::values::{
    ApiKeyCipher, ExperimentId, Label, PublicModelId, Upstream, Weight,
};

use crate::Result;

/// A variant to add to a draft, with its first version.
pub struct NewVariant {
    pub label: &'static str,
    pub weight: i32,
    pub upstream: Upstream,
    pub api_key: SecretString,
}

/// A cipher with a master key for demonstration only: everybody knows it.
pub fn cipher() -> Result<ApiKeyCipher> {
    let master_key = SecretString::from("ZGVtb25zdHJhdGlvbiBvbmx5LCBub3QgYSBzZWNyZXQ=");
    Ok(ApiKeyCipher::new(&master_key)?)
}

/// A new public model id, so that an example can run on the same database again.
pub fn public_model_id(example: &str) -> Result<PublicModelId> {
    let id = Uuid::now_v7().simple().to_string();
    // A UUIDv7 starts with the time and ends with random digits.
    Ok(PublicModelId::new(format!("{example}/preview-{}", &id[24..]))?)
}

/// Adds a variant to the draft and publishes its first version.
pub async fn add_variant(
    conn: &mut AsyncPgConnection,
    cipher: &ApiKeyCipher,
    draft: ExperimentId,
    new: &NewVariant,
) -> Result<(Variant, Version)> {
    let (label, weight) = (Label::new(new.label)?, Weight::new(new.weight)?);
    let variant = experiments::add_variant(conn, draft, &label, weight).await?;
    let key = cipher.encrypt(&new.api_key)?;
    let version = NewVersion::with_key(&new.upstream, &key);
    let first_version = experiments::publish(conn, variant.id, version).await?;
    Ok((variant, first_version))
}
