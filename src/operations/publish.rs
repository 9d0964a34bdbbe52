//! Publishing versions: hot-swapping a checkpoint or rotating its key, now or at a set time.
//!
//! A version is never changed. Each function inserts another one, which takes over when it is effective;
//! the variant stays as it is, and with it every user's bucket.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use super::notify::routing_changed;
use super::structure::refuse_completed;
use super::transaction::transaction;
use crate::error::{Error, Result};
use crate::tables::versions::{self, Version};
use crate::tables::{clock, experiments, variants};
use crate::values::{EncryptedApiKey, InvalidValue, Timestamp, Upstream, VariantId, storable};

/// A version to publish.
#[derive(Debug, Clone, Copy)]
pub struct NewVersion<'a> {
    upstream: &'a Upstream,
    key: Option<&'a EncryptedApiKey>,
    created_by: Option<&'a str>,
}

impl<'a> NewVersion<'a> {
    /// A version with a key of its own. A variant's first version must have one.
    pub fn with_key(upstream: &'a Upstream, key: &'a EncryptedApiKey) -> Self {
        Self { upstream, key: Some(key), created_by: None }
    }

    /// A version that keeps the key of the one it takes over from.
    pub fn keeping_key(upstream: &'a Upstream) -> Self {
        Self { upstream, key: None, created_by: None }
    }

    /// The host's user who publishes it.
    #[must_use]
    pub fn created_by(mut self, user_id: &'a str) -> Self {
        self.created_by = Some(user_id);
        self
    }
}

/// Publishes a version that is effective at once.
///
/// # Errors
///
/// - [`Error::KeyMissing`] when it is the first to be effective and has no key;
/// - [`Error::InstantTaken`] when another version was scheduled for this very microsecond;
/// - [`Error::Completed`], [`Error::VariantNotFound`];
/// - [`Error::Invalid`] when `created_by` contains a NUL character or exceeds 65,536 bytes.
pub async fn now(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    new: NewVersion<'_>,
) -> Result<Version> {
    check_created_by(new.created_by)?;
    transaction(conn, async |conn| {
        let now = lock(conn, variant).await?;
        insert(conn, variant, new, now).await
    })
    .await
}

/// Publishes a version that is effective from `effective_at` on.
///
/// A version without a key keeps the key of the one that is current just before, which may be scheduled
/// too.
///
/// # Errors
///
/// - [`Error::Backdated`] when `effective_at` has passed by the database's clock;
/// - [`Error::InstantTaken`] when another version of the variant is scheduled for the instant;
/// - those of [`now`].
pub async fn at(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    new: NewVersion<'_>,
    effective_at: Timestamp,
) -> Result<Version> {
    check_created_by(new.created_by)?;
    let effective_at = *effective_at.as_datetime();
    transaction(conn, async |conn| {
        let now = lock(conn, variant).await?;
        if effective_at < now {
            return Err(Error::Backdated { variant, effective_at, now });
        }
        insert(conn, variant, new, effective_at).await
    })
    .await
}

/// Publishes a copy of the current version with another key, effective at once.
///
/// Versions that are scheduled already keep the keys they were published with: after a key was revoked,
/// schedule them again with the new one.
///
/// # Errors
///
/// - [`Error::NothingToRotate`] when no version is current;
/// - [`Error::InstantTaken`] when another version was scheduled for this very microsecond;
/// - [`Error::Completed`], [`Error::VariantNotFound`];
/// - [`Error::Invalid`] when `created_by` contains a NUL character or exceeds 65,536 bytes.
pub async fn rotate_key(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    key: &EncryptedApiKey,
    created_by: Option<&str>,
) -> Result<Version> {
    check_created_by(created_by)?;
    transaction(conn, async |conn| {
        let now = lock(conn, variant).await?;
        refuse_taken(conn, variant, now).await?;
        versions::insert_keeping_upstream(conn, variant, key, now, created_by)
            .await?
            .ok_or(Error::NothingToRotate(variant))
    })
    .await
}

fn check_created_by(created_by: Option<&str>) -> Result<(), InvalidValue> {
    storable("created_by", created_by.unwrap_or_default())
}

/// Locks the variant's experiment, announces that it changes, and tells the time thereafter: publishers who race get
/// instants in the order in which they commit, so that none takes effect before what another already served.
async fn lock(conn: &mut AsyncPgConnection, variant: VariantId) -> Result<DateTime<Utc>> {
    let experiment = experiments::lock_of_variant(conn, variant).await?;
    refuse_completed(&experiment)?;
    // It may have been deleted while the lock was waited for.
    variants::find(conn, variant).await?.ok_or(Error::VariantNotFound(variant))?;
    routing_changed(conn, experiment).await?;
    clock(conn).await
}

/// Ids don't tell which of two versions of an instant was published last, so there is only one.
async fn refuse_taken(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    effective_at: DateTime<Utc>,
) -> Result<()> {
    if versions::is_taken(conn, variant, effective_at).await? {
        return Err(Error::InstantTaken { variant, effective_at });
    }
    Ok(())
}

async fn insert(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    new: NewVersion<'_>,
    effective_at: DateTime<Utc>,
) -> Result<Version> {
    refuse_taken(conn, variant, effective_at).await?;
    let NewVersion { upstream, key, created_by } = new;
    match key {
        Some(key) => versions::insert(conn, variant, upstream, key, effective_at, created_by).await,
        None => versions::insert_keeping_key(conn, variant, upstream, effective_at, created_by)
            .await?
            .ok_or(Error::KeyMissing(variant)),
    }
}
