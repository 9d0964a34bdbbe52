//! Where a system prompt is to be found, as where a body is.

use model_experiments::recording::NewRequest;
use model_experiments::values::SystemPromptRef;

fn uncaptured(request: NewRequest) -> NewRequest {
    request.prompt_refs(SystemPromptRef::Absent, SystemPromptRef::Failed)
}

fn main() {}
