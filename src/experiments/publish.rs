//! Publishing versions: a hot swap of a checkpoint or of its key, at once or scheduled.
//!
//! A version is never changed. Publishing inserts another, which replaces it when it becomes
//! effective. The variant stays as it is, and with it every user's bucket.
//!
//! Publishers who race get instants in the order in which they commit, since each asks for the
//! instant with the experiment locked. No version takes effect before one that was served already,
//! also where the database's clock was set back.

use chrono::TimeDelta;
use diesel_async::AsyncPgConnection;

use crate::error::{Error, Result};
use crate::experiments::locking::with_experiment_of;
use crate::experiments::notify::routing_changed;
use crate::experiments::rules::{
    require_instant_free, require_not_backdated, require_not_completed,
};
use crate::sql::clock::clock;
use crate::tables::variants;
use crate::tables::versions::{self, Content, NewVersion, Publication, Version};
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
/// - [`Error::Backdated`] when its instant has passed by the database's clock, or isn't after the
///   version that is served now;
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
    with_experiment_of(conn, variant, async |conn, experiment| {
        require_not_completed(&experiment)?;
        // It may have been deleted during the wait for the lock.
        variants::require(conn, variant).await?;
        routing_changed(conn, experiment).await?;
        let now = versions::next_instant(conn, variant).await?;
        let (effective_at, created_at) = match new.effective_at {
            Some(scheduled) => {
                require_not_backdated(variant, scheduled, now)?;
                require_instant_free(conn, variant, scheduled).await?;
                (scheduled, clock(conn).await?)
            }
            None => {
                let free = first_free_instant(conn, variant, now).await?;
                (free, free)
            }
        };
        let NewVersion { content, created_by, .. } = new;
        let publication = Publication { variant, effective_at, created_by, created_at };
        versions::insert(conn, &publication, content).await?.ok_or(match content {
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

/// The first instant from `now` on that no scheduled version has taken.
async fn first_free_instant(
    conn: &mut AsyncPgConnection,
    variant: VariantId,
    now: Timestamp,
) -> Result<Timestamp> {
    let mut instant = now;
    while versions::exists_at(conn, variant, instant).await? {
        instant = instant + TimeDelta::microseconds(1);
    }
    Ok(instant)
}
