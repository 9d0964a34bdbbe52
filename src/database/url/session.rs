//! Which session a URL asks for.

use crate::database::pooling::Pooler;
use crate::database::target::TargetSession;
use crate::database::url::values::Values;
use crate::error::Result;

pub(super) fn target_session(values: &Values) -> Result<Option<TargetSession>> {
    values.choice(
        "target_session_attrs",
        &[
            ("any", TargetSession::Any),
            ("read-write", TargetSession::ReadWrite),
            ("read-only", TargetSession::ReadOnly),
            ("primary", TargetSession::Primary),
            ("standby", TargetSession::Standby),
            ("prefer-standby", TargetSession::PreferStandby),
        ],
    )
}

pub(super) fn pooler(values: &Values) -> Result<Option<Pooler>> {
    values.choice("pooler", &[("session", Pooler::Session)])
}
