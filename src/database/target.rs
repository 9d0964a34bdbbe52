//! Which of several servers a connection is made to.

use crate::database::server::ServerRole;
use crate::error::{Error, Transient};

/// The servers that a connection may be made to, as libpq's `target_session_attrs` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetSession {
    /// Any server.
    Any,
    /// A server whose transactions take writes by default.
    ReadWrite,
    /// A server whose transactions take no writes by default.
    ReadOnly,
    /// A server that isn't a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or any server if none of the hosts is one.
    PreferStandby,
}

impl TargetSession {
    /// What is looked for among all hosts, and then what is taken instead.
    pub(super) fn passes(self) -> &'static [Self] {
        match self {
            Self::Any => &[Self::Any],
            Self::ReadWrite => &[Self::ReadWrite],
            Self::ReadOnly => &[Self::ReadOnly],
            Self::Primary => &[Self::Primary],
            Self::Standby => &[Self::Standby],
            Self::PreferStandby => &[Self::Standby, Self::Any],
        }
    }

    /// Whether a server is such.
    pub(super) fn accepts(self, role: ServerRole) -> bool {
        match self {
            Self::Any | Self::PreferStandby => true,
            Self::ReadWrite => !role.is_standby && !role.is_read_only,
            Self::ReadOnly => role.is_standby || role.is_read_only,
            Self::Primary => !role.is_standby,
            Self::Standby => role.is_standby,
        }
    }

    /// The error of a server that isn't such.
    pub(super) fn mismatch(self) -> Error {
        match self {
            Self::ReadWrite => Error::transient(Transient::ReadOnly, "it is read-only"),
            Self::Primary => Error::transient(Transient::ReadOnly, "it is a standby"),
            Self::ReadOnly => Error::transient(Transient::ServerUnavailable, "it is not read-only"),
            Self::Any | Self::Standby | Self::PreferStandby => {
                Error::transient(Transient::ServerUnavailable, "it is not a standby")
            }
        }
    }
}
