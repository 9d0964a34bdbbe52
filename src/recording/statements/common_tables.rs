//! Common table expressions of the recording statements, declared as tables.

use crate::schema::microdollar_usage as usage;
use crate::sql::with::CommonTable;

diesel::table! {
    /// Usages inserted by the statement.
    recorded_usage (id) {
        id -> Uuid,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Requests for the statement to insert.
    new_request (usage_id) {
        usage_id -> Uuid,
        variant_version_id -> Uuid,
        allocation_subject -> Text,
        client_request_id -> Nullable<Text>,
        system_prompt_sha256 -> Text,
        request_body_sha256 -> Text,
        was_truncated -> Bool,
    }
}

diesel::joinable!(new_request -> recorded_usage (usage_id));
diesel::joinable!(new_request -> usage (usage_id));
diesel::allow_tables_to_appear_in_same_query!(new_request, recorded_usage, usage);

impl CommonTable for recorded_usage::table {
    const DEFINITION: &'static str = "recorded_usage";
}

impl CommonTable for new_request::table {
    const DEFINITION: &'static str = "new_request (usage_id, variant_version_id, \
        allocation_subject, client_request_id, system_prompt_sha256, request_body_sha256, \
        was_truncated)";
}
