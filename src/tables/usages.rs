//! Usages: what a served request used and cost. The table may be the host's own.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use uuid::Uuid;

use crate::error::Result;
use crate::schema::microdollar_usage as usage;
use crate::sql::page::Cursor;
use crate::sql::run::Returns;
use crate::tables::differing::differing;
use crate::values::{InvalidValue, Timestamp, UsageId, indexable, shrink_to_fit, storable};

/// What a served request used and cost.
///
/// [`Usage::new`] makes the id and the instant once, and a retry keeps them. Texts are at most
/// 65,536 bytes long, unless their field says less.
///
/// ```
/// use model_experiments::recording::Usage;
///
/// let usage = Usage { input_tokens: 1_200, output_tokens: 80, cost: 940, ..Usage::new("user-7") };
/// assert_eq!(usage.cache_hit_tokens, 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Insertable, Queryable, Selectable)]
#[diesel(
    table_name = usage,
    treat_none_as_default_value = false,
    check_for_backend(Pg)
)]
pub struct Usage {
    /// Identifies the usage.
    pub id: UsageId,
    /// The user who is billed, at most 2,048 bytes.
    pub kilo_user_id: String,
    /// The cost, in microdollars.
    pub cost: i64,
    /// Tokens of the prompt.
    pub input_tokens: i64,
    /// Tokens generated.
    pub output_tokens: i64,
    /// Prompt tokens written to the provider's cache.
    pub cache_write_tokens: i64,
    /// Prompt tokens read from the provider's cache.
    pub cache_hit_tokens: i64,
    /// The instant at which the request was served.
    pub created_at: Timestamp,
    /// The provider that the host bills against.
    pub provider: Option<String>,
    /// The model that served the request, as the provider names it.
    pub model: Option<String>,
    /// The model that the client asked for.
    pub requested_model: Option<String>,
    /// The saving by caching, in microdollars.
    pub cache_discount: Option<i64>,
    /// Whether the upstream answered with an error.
    pub has_error: bool,
    /// The host's abuse classification; 0 when not classified.
    pub abuse_classification: i16,
    /// The organization that pays.
    pub organization_id: Option<Uuid>,
    /// The provider that ran the inference behind the billed provider.
    pub inference_provider: Option<String>,
    /// The host's project that the request belongs to.
    pub project_id: Option<String>,
}

impl Usage {
    /// A usage of `kilo_user_id` with a new id, at this instant, with all numbers zero.
    pub fn new(kilo_user_id: impl Into<String>) -> Self {
        Self {
            id: UsageId::new(),
            kilo_user_id: kilo_user_id.into(),
            cost: 0,
            input_tokens: 0,
            output_tokens: 0,
            cache_write_tokens: 0,
            cache_hit_tokens: 0,
            created_at: Timestamp::now(),
            provider: None,
            model: None,
            requested_model: None,
            cache_discount: None,
            has_error: false,
            abuse_classification: 0,
            organization_id: None,
            inference_provider: None,
            project_id: None,
        }
    }

    /// The usage's position in a [loss ledger](crate::reports::loss_ledger).
    pub fn cursor(&self) -> Cursor<UsageId> {
        Cursor { at: self.created_at, id: self.id }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        indexable("kilo_user_id", &self.kilo_user_id)?;
        for (field, text) in [
            ("provider", &self.provider),
            ("model", &self.model),
            ("requested_model", &self.requested_model),
            ("inference_provider", &self.inference_provider),
            ("project_id", &self.project_id),
        ] {
            storable(field, text.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Shrinks its texts, and returns the bytes that they take.
    pub(crate) fn shrink_to_fit(&mut self) -> usize {
        let optional = [
            &mut self.provider,
            &mut self.model,
            &mut self.requested_model,
            &mut self.inference_provider,
            &mut self.project_id,
        ];
        let texts = optional.into_iter().flatten().chain([&mut self.kilo_user_id]);
        texts.map(shrink_to_fit).sum()
    }

    /// The columns in which `stored`, a row with the same id, differs.
    pub(crate) fn differences(&self, stored: &Usage) -> Vec<&'static str> {
        differing([
            ("kilo_user_id", self.kilo_user_id == stored.kilo_user_id),
            ("cost", self.cost == stored.cost),
            ("input_tokens", self.input_tokens == stored.input_tokens),
            ("output_tokens", self.output_tokens == stored.output_tokens),
            ("cache_write_tokens", self.cache_write_tokens == stored.cache_write_tokens),
            ("cache_hit_tokens", self.cache_hit_tokens == stored.cache_hit_tokens),
            ("created_at", self.created_at == stored.created_at),
            ("provider", self.provider == stored.provider),
            ("model", self.model == stored.model),
            ("requested_model", self.requested_model == stored.requested_model),
            ("cache_discount", self.cache_discount == stored.cache_discount),
            ("has_error", self.has_error == stored.has_error),
            ("abuse_classification", self.abuse_classification == stored.abuse_classification),
            ("organization_id", self.organization_id == stored.organization_id),
            ("inference_provider", self.inference_provider == stored.inference_provider),
            ("project_id", self.project_id == stored.project_id),
        ])
    }
}

fn find_query(id: UsageId) -> impl Returns<Usage> {
    usage::table.find(id).select(Usage::as_select())
}

/// The usage `id`, if there is one.
///
/// # Errors
///
/// [`Error::Transient`](crate::Error::Transient) or [`Error::Database`](crate::Error::Database).
pub async fn find(conn: &mut AsyncPgConnection, id: UsageId) -> Result<Option<Usage>> {
    find_query(id).first(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};

    vec![query!(find_query(seed::usage(7))).by("microdollar_usage_pkey", "id = ?").rows(1, 1)]
}
