//! Routing: which version serves a request for a public model id.
//!
//! The only place where an encrypted key is loaded.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::Jsonb;
use diesel_async::AsyncPgConnection;
use serde_json::Value;

use crate::bucketing::{self, Subject};
use crate::error::Result;
use crate::schema::{model_experiment, model_experiment_variant, model_experiment_variant_version};
use crate::tables::Returns;
use crate::tables::experiments::is_routed;
use crate::tables::versions::current_id_now;
use crate::values::{
    AllocationSubject, EncryptedApiKey, ExperimentId, InvalidValue, PublicModelId, Status,
    Upstream, VariantId, VersionId, Weight,
};

/// An experiment that is active or paused, with what its variants serve now.
#[derive(Debug, Clone)]
pub struct RoutedExperiment {
    id: ExperimentId,
    status: Status,
    variants: Vec<(RoutedVariant, Option<RoutedVersion>)>,
}

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = model_experiment, check_for_backend(Pg))]
struct RoutedHead {
    id: ExperimentId,
    status: Status,
}

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = model_experiment_variant, check_for_backend(Pg))]
struct RoutedVariant {
    id: VariantId,
    weight: Weight,
}

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = model_experiment_variant_version, check_for_backend(Pg))]
struct RoutedVersion {
    id: VersionId,
    upstream: Readable<Upstream>,
    encrypted_api_key: Readable<EncryptedApiKey>,
}

/// A value that may break a rule of its type: one version that can't be read must not keep the
/// other variants from being served.
#[derive(Debug, Clone, FromSqlRow)]
struct Readable<T>(Result<T, InvalidValue>);

impl<T: TryFrom<Value, Error = InvalidValue>> FromSql<Jsonb, Pg> for Readable<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        // `jsonb` holds more than serde_json reads: numbers of any size, any depth.
        let json = <Value as FromSql<Jsonb, Pg>>::from_sql(value)
            .map_err(|_| InvalidValue::new("the JSON", "is too deep, or has a number too large"));
        Ok(Self(json.and_then(TryInto::try_into)))
    }
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Route<'r> {
    /// Serve it by this version.
    Serve(Served<'r>),
    /// No experiment is active or paused on the public model id: serve it as without experiments.
    NotExperimented,
    /// The experiment is paused: answer "not found", and never serve it otherwise.
    Paused,
    /// It can't be served now: answer "unavailable", and never serve it otherwise.
    Unavailable(Unavailable),
}

/// The version that serves a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Served<'r> {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The variant that the subject is bucketed into.
    pub variant: VariantId,
    /// The variant's current version.
    pub version: VersionId,
    /// What the request was bucketed by.
    pub subject: AllocationSubject,
    upstream: &'r Upstream,
    key: &'r EncryptedApiKey,
}

/// Why a request can't be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// Neither a user, nor a machine, nor an address is known to bucket by.
    #[error("the request has no user id, machine id or client address to bucket by")]
    NoSubject,
    /// The experiment has no variant.
    #[error("the experiment has no variant")]
    NoVariant,
    /// The variant has no version that is effective yet.
    #[error("variant {0} has no version that is effective yet")]
    NoCurrentVersion(VariantId),
    /// The variant's current version can't be read.
    #[error("version {version} can't be read: {reason}")]
    Unreadable {
        /// The version.
        version: VersionId,
        /// The rule that it breaks.
        reason: InvalidValue,
    },
}

impl<'r> Served<'r> {
    /// Where and how to call the checkpoint.
    pub fn upstream(&self) -> &'r Upstream {
        self.upstream
    }

    /// The encrypted key to call it with.
    pub fn key(&self) -> &'r EncryptedApiKey {
        self.key
    }
}

impl RoutedExperiment {
    /// The experiment's id.
    pub fn id(&self) -> ExperimentId {
        self.id
    }

    /// What to do with a request of `subject`.
    pub fn route(&self, subject: Option<Subject<'_>>) -> Route<'_> {
        if self.status == Status::Paused {
            return Route::Paused;
        }
        match subject.ok_or(Unavailable::NoSubject).and_then(|subject| self.serve(subject)) {
            Ok(served) => Route::Serve(served),
            Err(reason) => Route::Unavailable(reason),
        }
    }

    fn serve(&self, subject: Subject<'_>) -> Result<Served<'_>, Unavailable> {
        let (variant, current) =
            bucketing::pick(self.id, &self.variants, |(variant, _)| variant.weight, subject)
                .ok_or(Unavailable::NoVariant)?;
        let current = current.as_ref().ok_or(Unavailable::NoCurrentVersion(variant.id))?;
        let unreadable = |reason: &InvalidValue| Unavailable::Unreadable {
            version: current.id,
            reason: reason.clone(),
        };
        Ok(Served {
            experiment: self.id,
            variant: variant.id,
            version: current.id,
            subject: subject.kind(),
            upstream: current.upstream.0.as_ref().map_err(unreadable)?,
            key: current.encrypted_api_key.0.as_ref().map_err(unreadable)?,
        })
    }
}

fn routed(
    public_model_id: &PublicModelId,
) -> impl Returns<(RoutedHead, Option<RoutedVariant>, Option<RoutedVersion>)> {
    model_experiment::table
        .left_join(model_experiment_variant::table)
        .left_join(
            model_experiment_variant_version::table
                .on(model_experiment_variant_version::id.nullable().eq(current_id_now())),
        )
        .filter(model_experiment::public_model_id.eq(public_model_id))
        .filter(is_routed())
        .order(model_experiment_variant::id)
        .select((
            RoutedHead::as_select(),
            Option::<RoutedVariant>::as_select(),
            Option::<RoutedVersion>::as_select(),
        ))
}

/// The experiment that is active or paused on `public_model_id`, with what its variants serve now by the
/// database's clock: one query, whose cost doesn't grow with the number of old versions.
///
/// ```no_run
/// # use diesel_async::AsyncPgConnection;
/// use model_experiments::bucketing::Subject;
/// use model_experiments::operations::routing::{self, Route};
/// # use model_experiments::values::PublicModelId;
/// # async fn serve(conn: &mut AsyncPgConnection, model: PublicModelId, user_id: &str)
/// # -> model_experiments::Result<()> {
///
/// let routed = routing::load(conn, &model).await?;
/// let subject = Subject::first_of(Some(user_id), None, None);
/// match routed.as_ref().map_or(Route::NotExperimented, |routed| routed.route(subject)) {
///     Route::Serve(served) => println!("serve by {}", served.upstream().internal_id()),
///     Route::NotExperimented => println!("serve as always"),
///     Route::Paused => println!("404"),
///     Route::Unavailable(reason) => println!("503: {reason}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Only what the database says.
pub async fn load(
    conn: &mut AsyncPgConnection,
    public_model_id: &PublicModelId,
) -> Result<Option<RoutedExperiment>> {
    let rows = routed(public_model_id).load(conn).await?;
    let head = rows.first().map(|(head, ..)| head.clone());
    Ok(head.map(|RoutedHead { id, status }| RoutedExperiment {
        id,
        status,
        variants: rows
            .into_iter()
            .filter_map(|(_, variant, current)| Some((variant?, current)))
            .collect(),
    }))
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};

    vec![
        query!(routed(&seed::model(4)))
            .by("UQ_model_experiment_public_model_id_routing", "public_model_id = ?")
            .by("IDX_model_experiment_variant_experiment_id", "experiment_id = model_experiment.id")
            .by(
                "IDX_model_experiment_variant_version_variant_effective",
                "(variant_id = model_experiment_variant.id) \
                 AND (effective_at <= statement_timestamp())",
            )
            .by("model_experiment_variant_version_pkey", "id = (SubPlan 1)")
            .rows(2, 11),
        query!(routed(&seed::model(1001)), "with a long history"),
    ]
}
