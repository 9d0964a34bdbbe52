//! Requests: which version served each. They hold no prompt.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde::Serialize;

use crate::error::Result;
use crate::schema::model_experiment_request as request;
use crate::sql::run::Returns;
use crate::tables::differing::differing;
use crate::values::{
    AllocationSubject, InvalidValue, PromptCapture, RequestBodyRef, SystemPromptRef, Timestamp,
    UsageId, VersionId, indexable, shrink_to_fit, storable,
};

/// A served request, 1:1 with its usage, and the version that served it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Queryable, Selectable)]
#[diesel(table_name = request, check_for_backend(Pg))]
#[non_exhaustive]
pub struct Request {
    /// The usage of the request. It identifies the request too.
    pub usage_id: UsageId,
    /// The version that served the request.
    pub variant_version_id: VersionId,
    /// What the request was bucketed by.
    pub allocation_subject: AllocationSubject,
    /// The id that the client gave the request; not unique.
    pub client_request_id: Option<String>,
    /// The reference to the system prompt.
    pub system_prompt_sha256: SystemPromptRef,
    /// The reference to the rest of the request body.
    pub request_body_sha256: RequestBodyRef,
    /// Whether a captured side was cut before it was hashed.
    pub was_truncated: bool,
    /// The instant at which the request was served: its usage's `created_at`.
    pub created_at: Timestamp,
}

/// A request to record with its usage. Its id and its instant are the usage's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    pub(crate) variant_version_id: VersionId,
    pub(crate) allocation_subject: AllocationSubject,
    pub(crate) client_request_id: Option<String>,
    pub(crate) system_prompt_sha256: SystemPromptRef,
    pub(crate) request_body_sha256: RequestBodyRef,
    pub(crate) was_truncated: bool,
}

impl NewRequest {
    /// A request that `version` served, bucketed by `subject`.
    ///
    /// Without a prompt, both references are `Failed`. Where a route was picked, use
    /// [`served_by`](Self::served_by).
    pub fn new(version: VersionId, subject: AllocationSubject) -> Self {
        Self {
            variant_version_id: version,
            allocation_subject: subject,
            client_request_id: None,
            system_prompt_sha256: SystemPromptRef::Failed,
            request_body_sha256: RequestBodyRef::Failed,
            was_truncated: false,
        }
    }

    /// The id that the client gave the request, at most 2,048 bytes. Leave a longer one out:
    /// recording refuses it together with the usage.
    #[must_use]
    pub fn client_request_id(mut self, id: impl Into<String>) -> Self {
        self.client_request_id = Some(id.into());
        self
    }

    /// The prompt, captured and stored under its hashes.
    #[must_use]
    pub fn prompt(mut self, capture: &PromptCapture<'_>) -> Self {
        self.system_prompt_sha256 = capture.system_prompt_ref();
        self.request_body_sha256 = capture.request_body_ref();
        self.was_truncated = capture.was_truncated();
        self
    }

    /// References to a prompt of which a side couldn't be captured or stored.
    #[must_use]
    pub fn prompt_refs(
        mut self,
        system_prompt: SystemPromptRef,
        request_body: RequestBodyRef,
    ) -> Self {
        self.system_prompt_sha256 = system_prompt;
        self.request_body_sha256 = request_body;
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        indexable("client_request_id", self.client_request_id.as_deref().unwrap_or_default())
    }

    /// Shrinks its text, and returns the bytes that it takes.
    pub(crate) fn shrink_to_fit(&mut self) -> usize {
        self.client_request_id.as_mut().map_or(0, shrink_to_fit)
    }

    /// The columns in which `stored`, a row with the same usage id, differs.
    pub(crate) fn differences(&self, stored: &Request) -> Vec<&'static str> {
        differing([
            ("variant_version_id", self.variant_version_id == stored.variant_version_id),
            ("allocation_subject", self.allocation_subject == stored.allocation_subject),
            ("client_request_id", self.client_request_id == stored.client_request_id),
            ("system_prompt_sha256", self.system_prompt_sha256 == stored.system_prompt_sha256),
            ("request_body_sha256", self.request_body_sha256 == stored.request_body_sha256),
            ("was_truncated", self.was_truncated == stored.was_truncated),
        ])
    }
}

fn find_query(id: UsageId) -> impl Returns<Request> {
    request::table.find(id).select(Request::as_select())
}

fn list_by_client_request_id_query(id: &str) -> impl Returns<Request> {
    request::table
        .filter(request::client_request_id.eq(id))
        .order((request::created_at, request::usage_id))
        .select(Request::as_select())
}

/// The request of the usage `id`, if there is one.
///
/// # Errors
///
/// [`Error::Transient`](crate::Error::Transient) or [`Error::Database`](crate::Error::Database).
pub async fn find(conn: &mut AsyncPgConnection, id: UsageId) -> Result<Option<Request>> {
    find_query(id).first(conn).await
}

/// The requests with the id `client_request_id`, oldest first. A client may repeat an id.
///
/// # Errors
///
/// [`Error::Invalid`](crate::Error::Invalid) when the id contains a NUL character or exceeds 65,536
/// bytes.
pub async fn list_by_client_request_id(
    conn: &mut AsyncPgConnection,
    client_request_id: &str,
) -> Result<Vec<Request>> {
    storable("client_request_id", client_request_id)?;
    list_by_client_request_id_query(client_request_id).load(conn).await
}

#[cfg(test)]
pub(crate) fn queries() -> Vec<crate::registry::Query> {
    use crate::registry::{query, seed};

    vec![
        query!(find_query(seed::usage(7)))
            .by("model_experiment_request_pkey", "usage_id = ?")
            .rows(1, 1),
        query!(list_by_client_request_id_query("client-600"))
            .by("IDX_model_experiment_request_client_request_id", "client_request_id = ?")
            .rows(2, 2),
    ]
}
