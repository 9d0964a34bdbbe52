//! Publishing versions: a hot swap of a checkpoint or of its key, at once or scheduled.
//!
//! A version is never changed. Publishing inserts another, which replaces it when it becomes
//! effective. The variant stays as it is, and with it every user's bucket.

use diesel_async::AsyncPgConnection;

use crate::database::transaction::transaction;
use crate::error::{Error, Result};
use crate::experiments::notify::routing_changed;
use crate::experiments::rules::{
    require_instant_free, require_not_backdated, require_not_completed,
};
use crate::sql::clock::clock;
use crate::tables::versions::{self, Content, NewVersion, Publication, Version};
use crate::tables::{experiments, variants};
use crate::values::{EncryptedApiKey, Timestamp, VariantId};

/// Publishes a version of `variant`, effective at once or at the instant that `new` says.
///
/// A version that keeps a key or an upstream takes it from the version that it replaces: the one
/// that is current just before. That version may be scheduled too.
///
/// Publishing isn't idempotent. After a lost connection, look in
/// [`list_versions`](crate::experiments::list_versions) whether the version is there.
///
/// # Errors
///
/// - [`Error::KeyMissing`] when it keeps a key, and there is no version to take it from;
/// - [`Error::NothingToRotate`] when it keeps an upstream, and there is no version to take it from;
/// - [`Error::Backdated`] when its instant has passed by the database's clock;
/// - [`Error::InstantTaken`] when another version of the variant becomes effective at the same
///   microsecond;
/// - [`Error::Completed`], [`Error::VariantNotFound`];
/// - [`Error::Invalid`] when `created_by` contains a NUL character or exceeds 65,536 bytes.
#[tracing::instrument(skip_all, fields(%variant))]
pub async fn publish(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    new: NewVersion<'_>,
) -> Result<Version> {
    new.check()?;
    transaction(conn, async |conn| {
        let now = lock(conn, variant).await?;
        let effective_at = new.effective_at.unwrap_or(now);
        require_not_backdated(variant, effective_at, now)?;
        require_instant_free(conn, variant, effective_at).await?;
        let publication = Publication { variant, effective_at, created_by: new.created_by };
        let published = versions::insert(conn, &publication, new.content).await?;
        published.ok_or(match new.content {
            Content::KeepUpstream(_) => Error::NothingToRotate(variant),
            Content::New { .. } | Content::KeepKey(_) => Error::KeyMissing(variant),
        })
    })
    .await
}

/// Publishes a copy of the current version with another key, effective at once.
///
/// Versions that are scheduled already keep the keys that they were published with. After a key was
/// revoked, schedule them again with the new one.
///
/// # Errors
///
/// Those of [`publish`].
#[tracing::instrument(skip_all, fields(%variant))]
pub async fn rotate_key(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    key: &EncryptedApiKey,
) -> Result<Version> {
    publish(conn, variant, NewVersion::keeping_upstream(key)).await
}

/// Locks the variant's experiment, notifies routing caches, and returns the instant after that.
///
/// Publishers who race get instants in the order in which they commit, so that no version takes
/// effect before one that was served already.
async fn lock(conn: &mut AsyncPgConnection, variant: VariantId) -> Result<Timestamp> {
    let experiment = experiments::lock_of_variant(conn, variant).await?;
    require_not_completed(&experiment)?;
    // It may have been deleted during the wait for the lock.
    variants::require(conn, variant).await?;
    routing_changed(conn, experiment).await?;
    clock(conn).await
}
