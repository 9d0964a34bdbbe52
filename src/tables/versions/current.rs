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
//! Asked in three ways, with a function for each: of one variant ([`of_variant`]), and in a query
//! over `model_experiment_variant` of each of its rows, at a given instant ([`of_each`]) or now
//! ([`of_each_now`]). The snapshots are `tests/queries/tables.versions.*` and
//! `tests/queries/routing.query.*`.

use diesel::dsl::auto_type;
use diesel::prelude::*;

use crate::schema::{
    model_experiment_variant as variant, model_experiment_variant_version as version,
};
use crate::sql::functions::{greatest, statement_timestamp};
use crate::sql::limit_one::limit_one;
use crate::values::{Timestamp, VariantId};

diesel::alias!(
    pub(crate) const NEWEST: Alias<Newest> = version as newest;
    pub(crate) const EARLIER: Alias<Earlier> = version as earlier;
);

/// The versions of `of` that are effective from the latest instant until `at`, the current one
/// first.
#[auto_type]
pub(super) fn of_variant(of: VariantId, at: Timestamp) -> _ {
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

/// The id of the version of each variant that is current at `at`, in a query over variants.
#[auto_type]
pub(crate) fn of_each(at: Timestamp) -> _ {
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

/// The versions of each variant that are effective from the latest instant until now, the current
/// one first, in a query over variants. Now is by the database's clock, but no earlier than `seen`.
#[auto_type]
pub(crate) fn of_each_now(seen: Option<Timestamp>) -> _ {
    let latest = EARLIER
        .filter(EARLIER.field(version::variant_id).eq(variant::id))
        .filter(EARLIER.field(version::effective_at).le(greatest(statement_timestamp(), seen)))
        .order(EARLIER.field(version::effective_at).desc())
        .select(EARLIER.field(version::effective_at));
    NEWEST
        .filter(NEWEST.field(version::variant_id).eq(variant::id))
        .filter(NEWEST.field(version::effective_at).nullable().eq(limit_one(latest)))
        .order(NEWEST.field(version::id).desc())
}

/// The instant at which the next scheduled version of each variant becomes effective, in a query
/// over variants. What is next is by the same clock as in [`of_each_now`].
#[auto_type]
pub(crate) fn next_of_each(seen: Option<Timestamp>) -> _ {
    let later = EARLIER
        .filter(EARLIER.field(version::variant_id).eq(variant::id))
        .filter(EARLIER.field(version::effective_at).gt(greatest(statement_timestamp(), seen)))
        .order(EARLIER.field(version::effective_at).asc())
        .select(EARLIER.field(version::effective_at));
    limit_one(later)
}
