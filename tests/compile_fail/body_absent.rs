//! A request body that is absent.

use model_experiments::recording::NewRequest;
use model_experiments::values::{RequestBodyRef, SystemPromptRef};

fn uncaptured(request: NewRequest) -> NewRequest {
    request.prompt_refs(SystemPromptRef::Absent, RequestBodyRef::Absent)
}

fn main() {}
