//! A reference to a system prompt as a reference to a body.

use model_experiments::recording::NewRequest;
use model_experiments::values::SystemPromptRef;

fn uncaptured(request: NewRequest) -> NewRequest {
    request.prompt_refs(SystemPromptRef::Absent, SystemPromptRef::Failed)
}

fn main() {}
