//! The current version of a variant: the one that it serves.
//!
//! For the variant `$variant` at the instant `$at`:
//!
//! ```sql
//! SELECT newest.*
//! FROM model_experiment_variant_version AS newest
//! WHERE newest.variant_id = $variant
//!   AND newest.effective_at = (
//!     SELECT earlier.effective_at
//!     FROM model_experiment_variant_version AS earlier
//!     WHERE earlier.variant_id = $variant AND earlier.effective_at <= $at
//!     ORDER BY earlier.effective_at DESC
//!     LIMIT 1
//!   )
//! ORDER BY newest.id DESC
//! LIMIT 1
//! ```
//!
//! Why two steps, where `ORDER BY effective_at DESC, id DESC LIMIT 1` says the same? The index of
//! versions is ordered by `(variant_id, effective_at DESC)` and lacks the id. Where most variants
//! have one or two versions, a generic plan expects few rows and sorts all versions of the variant,
//! also of the one that has thousands. The inner query is in the order of the index to the last
//! column, so that it descends the index once whatever the planner expects. The outer query reads
//! the versions of a single instant, of which there is mostly one.
//!
//! `LIMIT 1` is a literal: see [`limit_one`].
//!
//! Now is by the database's clock, which may have been set back. What is current now is the latest
//! version that is effective, *or was effective when it was made*: the inner query asks for
//! `earlier.effective_at <= greatest(statement_timestamp(), earlier.created_at)`. It still reads
//! the index from its top, and skips what is scheduled. The planner knows as much of this
//! comparison without the values of binds, so that one generic plan serves all executions.
//!
//! Asked of one variant, now ([`of_variant`]) or at an instant ([`of_variant_at`]), and in a query
//! over `model_experiment_variant` of each of its rows ([`of_each`], [`id_of_each_at`]). The
//! snapshots are `tests/queries/tables.versions.*` and `tests/queries/routing.query.*`.

use diesel::dsl::auto_type;
use diesel::prelude::*;

use crate::schema::{
    model_experiment_variant as variant, model_experiment_variant_version as version,
};
use crate::sql::functions::{greatest, greatest_of_three, statement_timestamp};
use crate::sql::limit_one::limit_one;
use crate::values::{Timestamp, VariantId};

diesel::alias!(
    pub(crate) const NEWEST: Alias<Newest> = version as newest;
    pub(crate) const EARLIER: Alias<Earlier> = version as earlier;
);

/// Whether an earlier version is effective now, or was when it was made. Now is by the database's
/// clock, but no earlier than `seen`.
#[auto_type]
fn is_effective(seen: Option<Timestamp>) -> _ {
    let created_at = EARLIER.field(version::created_at);
    EARLIER.field(version::effective_at).le(greatest_of_three(
        statement_timestamp(),
        seen,
        created_at,
    ))
}

/// The instant of the version of `of` that is current now.
#[auto_type]
pub(super) fn latest_instant(of: VariantId) -> _ {
    let effective: is_effective = is_effective(None::<Timestamp>);
    EARLIER
        .filter(EARLIER.field(version::variant_id).eq(of))
        .filter(effective)
        .order(EARLIER.field(version::effective_at).desc())
        .select(EARLIER.field(version::effective_at))
}

/// The versions of `of` that are effective from the latest instant until now, the current one
/// first.
#[auto_type]
pub(super) fn of_variant(of: VariantId) -> _ {
    let latest: latest_instant = latest_instant(of);
    version::table
        .filter(version::variant_id.eq(of))
        .filter(version::effective_at.nullable().eq(limit_one(latest)))
        .order(version::id.desc())
}

/// The versions of `of` that are effective from the latest instant until `at`, the current one
/// first.
#[auto_type]
pub(super) fn of_variant_at(of: VariantId, at: Timestamp) -> _ {
    let latest = EARLIER
        .filter(EARLIER.field(version::variant_id).eq(of))
        .filter(EARLIER.field(version::effective_at).le(at))
        .order(EARLIER.field(version::effective_at).desc())
        .select(EARLIER.field(version::effective_at));
    version::table
        .filter(version::variant_id.eq(of))
        .filter(version::effective_at.nullable().eq(limit_one(latest)))
        .order(version::id.desc())
}

/// The versions of each variant that are effective from the latest instant until now, the current
/// one first, in a query over variants. Now is no earlier than `seen`.
#[auto_type]
pub(crate) fn of_each(seen: Option<Timestamp>) -> _ {
    let effective: is_effective = is_effective(seen);
    let latest = EARLIER
        .filter(EARLIER.field(version::variant_id).eq(variant::id))
        .filter(effective)
        .order(EARLIER.field(version::effective_at).desc())
        .select(EARLIER.field(version::effective_at));
    NEWEST
        .filter(NEWEST.field(version::variant_id).eq(variant::id))
        .filter(NEWEST.field(version::effective_at).nullable().eq(limit_one(latest)))
        .order(NEWEST.field(version::id).desc())
}

/// The id of the version of each variant that is current now, in a query over variants.
#[auto_type]
pub(crate) fn id_of_each() -> _ {
    let versions: of_each = of_each(None::<Timestamp>);
    limit_one(versions.select(NEWEST.field(version::id)))
}

/// The id of the version of each variant that is current at `at`, in a query over variants.
#[auto_type]
pub(super) fn id_of_each_at(at: Timestamp) -> _ {
    let latest = EARLIER
        .filter(EARLIER.field(version::variant_id).eq(variant::id))
        .filter(EARLIER.field(version::effective_at).le(at))
        .order(EARLIER.field(version::effective_at).desc())
        .select(EARLIER.field(version::effective_at));
    let newest = NEWEST
        .filter(NEWEST.field(version::variant_id).eq(variant::id))
        .filter(NEWEST.field(version::effective_at).nullable().eq(limit_one(latest)))
        .order(NEWEST.field(version::id).desc())
        .select(NEWEST.field(version::id));
    limit_one(newest)
}

/// The instant at which the next scheduled version of each variant becomes effective, in a query
/// over variants. What is next is by the same clock as in [`of_each`].
#[auto_type]
pub(crate) fn next_of_each(seen: Option<Timestamp>) -> _ {
    let effective_at = EARLIER.field(version::effective_at);
    let later = EARLIER
        .filter(EARLIER.field(version::variant_id).eq(variant::id))
        .filter(effective_at.gt(greatest(statement_timestamp(), seen)))
        .filter(effective_at.gt(EARLIER.field(version::created_at)))
        .order(effective_at.asc())
        .select(effective_at);
    limit_one(later)
}
