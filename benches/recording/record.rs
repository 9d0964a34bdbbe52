//! Records to write: as the crate takes them, and as plain values for tokio-postgres.

use model_experiments::recording::{NewRequest, Record, Usage};
use model_experiments::values::{AllocationSubject, PromptCapture, VersionId};
use serde_json::json;
use std::borrow::Borrow;
use std::time::SystemTime;
use uuid::Uuid;

use crate::price::cost;
use crate::trace::TraceRequest;

/// Number of users that send requests.
const USERS: usize = 300;

/// A record, and beside it those values of its request that the record doesn't expose.
pub struct PreparedRecord {
    pub record: Record,
    pub created_at: SystemTime,
    pub version: Uuid,
    pub subject: &'static str,
    pub client_request_id: String,
    pub system_prompt: String,
    pub request_body: String,
}

impl PreparedRecord {
    /// A record with a new id for a request of a trace, as a gateway makes it.
    pub fn new(versions: &[VersionId], request: &TraceRequest) -> Self {
        let TraceRequest { number, input_tokens, output_tokens } = *request;
        let version = versions[number % versions.len()];
        let usage = Usage {
            cost: cost(input_tokens, output_tokens),
            input_tokens: input_tokens.into(),
            output_tokens: output_tokens.into(),
            provider: Some("partner".to_owned()),
            model: Some("preview-rc1".to_owned()),
            requested_model: Some("partner/preview".to_owned()),
            has_error: output_tokens == 0,
            ..Usage::new(format!("user-{}", number % USERS))
        };
        let body = json!({"messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": format!("Question {number}")},
        ]});
        let prompt = PromptCapture::of(&body);
        let client_request_id = format!("request-{}", usage.id);
        Self {
            created_at: (*usage.created_at.as_datetime()).into(),
            version: version.into(),
            subject: AllocationSubject::User.as_str(),
            client_request_id: client_request_id.clone(),
            system_prompt: prompt.system_prompt_ref().to_string(),
            request_body: prompt.request_body_ref().to_string(),
            record: Record::new(
                usage,
                NewRequest::new(version, AllocationSubject::User)
                    .client_request_id(client_request_id)
                    .prompt(&prompt),
            ),
        }
    }

    pub fn usage(&self) -> &Usage {
        &self.record.usage
    }
}

impl Borrow<Record> for PreparedRecord {
    fn borrow(&self) -> &Record {
        &self.record
    }
}
