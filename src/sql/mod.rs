//! What Diesel lacks or we add to it, each once.

pub(crate) mod clock;
pub(crate) mod functions;
pub(crate) mod kept;
pub(crate) mod limit_one;
pub(crate) mod page;
pub(crate) mod run;
pub(crate) mod status_literal;
pub(crate) mod with;
