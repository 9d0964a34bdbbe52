//! Errors by what went wrong.

use std::fmt;
use uuid::Uuid;

use crate::error::cause::Cause;
use crate::error::constraint::Constraint;
use crate::values::{
    CipherError, ExperimentId, InvalidValue, Label, PublicModelId, Status, Timestamp, UsageId,
    VariantId, VersionId,
};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by cause. No error contains a key or a prompt.
///
/// An operation that fails has written nothing, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such experiment.
    #[error("there is no experiment {0}")]
    ExperimentNotFound(ExperimentId),
    /// There is no such variant.
    #[error("there is no variant {0}")]
    VariantNotFound(VariantId),
    /// There is no such version.
    #[error("there is no variant version {0}")]
    VersionNotFound(VersionId),
    /// There is no such usage row.
    #[error("there is no usage {0}")]
    UsageNotFound(UsageId),

    /// Another session has locked what is to be changed, and kept it for longer than the wait: 5
    /// seconds, or the session's `lock_timeout`.
    #[error("another session{} holds the lock; end it, or try again", with_pid(*holder))]
    Locked {
        /// The process id of the session's server process, where it is known:
        /// `SELECT pg_terminate_backend(holder)` ends it.
        holder: Option<i32>,
        /// What the server said.
        #[source]
        cause: Cause,
    },
    /// The caller's transaction doesn't see what was committed since its snapshot.
    #[error(
        "experiment {experiment} can't be changed at {isolation}; begin the transaction at READ COMMITTED"
    )]
    IsolationTooStrict {
        /// The experiment.
        experiment: ExperimentId,
        /// The transaction's isolation level.
        isolation: String,
    },
    /// The lifecycle has no such transition.
    #[error("experiment {experiment} is {from} and can't become {to}")]
    InvalidTransition {
        /// The experiment.
        experiment: ExperimentId,
        /// Its status.
        from: Status,
        /// The status that was asked for.
        to: Status,
    },
    /// The experiment has left draft. Only a draft may be deleted, and only a draft's variants,
    /// weights and public model id may change.
    #[error("experiment {experiment} is {status}, and this may change only while it is a draft")]
    NotDraft {
        /// The experiment.
        experiment: ExperimentId,
        /// Its status.
        status: Status,
    },
    /// The draft's versions have served requests, which are kept.
    #[error("versions of experiment {0} have served requests, so it can't be deleted")]
    HasRequests(ExperimentId),
    /// The experiment is completed. Only its name, its description and whether it is archived may
    /// change.
    #[error("experiment {0} is completed and takes no more versions or labels")]
    Completed(ExperimentId),
    /// An active experiment can't be archived.
    #[error("experiment {0} is active; pause or complete it before archiving it")]
    ActiveNotArchivable(ExperimentId),
    /// The experiment lacks something that an active one has.
    #[error("experiment {experiment} can't be activated: {reason}")]
    NotReady {
        /// The experiment.
        experiment: ExperimentId,
        /// What it lacks.
        reason: NotReady,
    },
    /// Another experiment is active or paused on the same public model id.
    #[error("experiment {routed_by} already serves {public_model_id}; complete it first")]
    PublicModelIdTaken {
        /// The public model id.
        public_model_id: PublicModelId,
        /// The experiment that has it.
        routed_by: ExperimentId,
    },
    /// Another variant of the experiment has the label.
    #[error("experiment {experiment} already has a variant {label}")]
    LabelTaken {
        /// The experiment.
        experiment: ExperimentId,
        /// The label.
        label: Label,
    },

    /// A variant's first version must bring a key.
    #[error("variant {0} has no earlier version whose key could be kept; publish with a key")]
    KeyMissing(VariantId),
    /// A key can be rotated only where a version is to be copied.
    #[error("variant {0} has no version yet whose key could be rotated; publish one")]
    NothingToRotate(VariantId),
    /// Another version of the variant becomes effective at the same instant.
    #[error(
        "variant {variant} has a version that is effective at {effective_at} already; choose another instant"
    )]
    InstantTaken {
        /// The variant.
        variant: VariantId,
        /// The instant.
        effective_at: Timestamp,
    },
    /// The instant at which the version would become effective has passed.
    #[error(
        "a version of variant {variant} can't be effective at {effective_at}: it is {now} already"
    )]
    Backdated {
        /// The variant.
        variant: VariantId,
        /// The instant that was asked for.
        effective_at: Timestamp,
        /// Now, by the database's clock.
        now: Timestamp,
    },

    /// The usage id was recorded before with other content.
    #[error("usage {usage} is recorded already with a different {}", columns.join(", "))]
    RecordedDifferently {
        /// The usage id.
        usage: UsageId,
        /// The columns whose content differs.
        columns: Vec<&'static str>,
    },

    /// The usage is recorded and its request isn't, where billing comes first. The request can be
    /// attributed later.
    #[error("usage {usage} is recorded, but not its request: {reason}")]
    NotAttributed {
        /// The usage id.
        usage: UsageId,
        /// Why the request isn't recorded.
        #[source]
        reason: Box<Error>,
    },

    /// A value that was passed in breaks a rule.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A value that the database returned breaks a rule of its type.
    #[error(transparent)]
    Unreadable(#[from] UnreadableValue),
    /// An API key couldn't be encrypted or decrypted.
    #[error(transparent)]
    Cipher(#[from] CipherError),

    /// A value has a character that the database's encoding lacks. The message names its bytes.
    #[error("the database can't store a value: {0}; move it to a database with ENCODING 'UTF8'")]
    Unencodable(#[source] Cause),

    /// A constraint of the schema was violated, and no other error names the case.
    #[error("the row violates {}", constraint.name())]
    Violated {
        /// The constraint.
        constraint: Constraint,
    },
    /// A constraint was violated that the host added to the schema.
    #[error("the row violates {name}, a constraint that this crate doesn't know")]
    UnknownConstraint {
        /// The constraint's name.
        name: String,
    },

    /// The connection URL or an option can't be used as it is.
    #[error("the database can't be reached as configured: {0}")]
    Configuration(#[source] Cause),
    /// Row-level security hides every row of a table from the role, so that it reads as empty. No
    /// permissive policy for `SELECT` applies to the role.
    #[error(
        "row-level security hides every row of {table} from this role; create a policy for SELECT that applies to it, or let the role bypass row-level security"
    )]
    RowsHidden {
        /// The table.
        table: &'static str,
    },
    /// The pool was closed.
    #[error("the pool is closed")]
    PoolClosed,
    /// The recorder has no room for another record. Within [`NotAttributed`](Self::NotAttributed):
    /// the request was given up to make room.
    #[error("the recorder is full; try again, or await submit")]
    RecorderFull,
    /// The recorder was shut down, its runtime has ended, or code of the host that it called
    /// panicked.
    #[error("the recorder is closed")]
    RecorderClosed,
    /// The database couldn't serve the statement now. The same call may succeed later.
    #[error("{kind}: {cause}")]
    Transient {
        /// The kind of trouble.
        kind: Transient,
        /// What the server or the driver said.
        #[source]
        cause: Cause,
    },
    /// The migrations couldn't be applied.
    #[error("migrating the schema failed: {0}")]
    Migration(#[source] Cause),
    /// The database refused the statement for another reason, or returned what can't be read.
    #[error("the statement failed: {0}")]
    Database(#[source] Cause),
}

/// What an experiment lacks that an active one has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// It has no variant.
    #[error("it has no variant")]
    NoVariant,
    /// A variant has no version that is effective yet.
    #[error("its variant {label} ({variant}) has no version that is effective yet")]
    NoCurrentVersion {
        /// The variant.
        variant: VariantId,
        /// What operators call it.
        label: Label,
    },
    /// It is archived.
    #[error("it is archived")]
    Archived,
}

/// The kind of a transient failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transient {
    /// The server couldn't be reached, or the connection was lost. A statement that was under way
    /// may have been committed.
    ConnectionLost,
    /// The server is starting up or shutting down, or ended the connection.
    ServerUnavailable,
    /// The server takes no writes, as a standby does until it is promoted. The connection is
    /// closed; call again on another.
    ReadOnly,
    /// The server has no room for another connection.
    TooManyConnections,
    /// No pooled connection came free in time.
    PoolTimeout,
    /// A prepared statement no longer fits: a migration changed what it returns, or the server or a
    /// pooler has forgotten it. The connection is closed; call again on another.
    StaleStatement,
    /// A statement took longer than allowed.
    StatementTimeout,
    /// A lock wasn't had in time.
    LockTimeout,
    /// PostgreSQL aborted the transaction to resolve a deadlock.
    Deadlock,
    /// Concurrent changes made the transaction impossible to serialize.
    SerializationFailure,
    /// The server has run out of disk space, memory or locks.
    OutOfResources,
    /// The statement was cancelled by request.
    Cancelled,
}

/// A value in the database that can't be read as what its column holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table}.{column} of the row {row} can't be read: {reason}")]
pub struct UnreadableValue {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: String,
    /// The row's id.
    pub row: Uuid,
    /// The rule that the value breaks.
    pub reason: String,
}

impl Error {
    pub(crate) fn transient(kind: Transient, cause: impl Into<Cause>) -> Self {
        Self::Transient { kind, cause: cause.into() }
    }

    pub(crate) fn configuration(cause: impl Into<Cause>) -> Self {
        Self::Configuration(cause.into())
    }

    pub(crate) fn database(cause: impl Into<Cause>) -> Self {
        Self::Database(cause.into())
    }

    /// Whether the connection that it came over must not be used again.
    pub(crate) fn ends_connection(&self) -> bool {
        matches!(self, Self::Transient { kind, .. } if kind.ends_connection())
    }

    /// Whether the same call may succeed when it is made again.
    ///
    /// A change that was under way when the connection was lost may have been committed. Repeating
    /// a record or a lifecycle transition is harmless. After
    /// [`create`](crate::experiments::create), [`add_variant`](crate::experiments::add_variant) or
    /// [`publish`](crate::experiments::publish), look first whether the row is there.
    ///
    /// Deadlocks, timeouts, cancellations and shutdowns are told by the server's English messages.
    /// A server with another `lc_messages` reports them as [`Error::Database`], which isn't
    /// retryable; connecting to one logs a warning. Set `lc_messages = 'C'` on the server, or for
    /// the role by `ALTER ROLE … SET`. A recorder and a routing cache retry there by themselves.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transient { .. } | Self::Locked { .. } | Self::RecorderFull => true,
            Self::NotAttributed { reason, .. } => reason.is_retryable(),
            _ => false,
        }
    }
}

impl Transient {
    /// Whether the connection must not be used again: it is lost, its server takes no writes, or
    /// what was prepared on it no longer fits. A pooler that has no room closes it.
    pub(crate) fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::ConnectionLost
                | Self::ServerUnavailable
                | Self::ReadOnly
                | Self::TooManyConnections
                | Self::StaleStatement
        )
    }

    /// Whether it ended one statement, and others on the same connection may succeed.
    pub(crate) fn is_of_statement(self) -> bool {
        matches!(
            self,
            Self::Cancelled
                | Self::Deadlock
                | Self::LockTimeout
                | Self::SerializationFailure
                | Self::StatementTimeout
        )
    }
}

fn with_pid(holder: Option<i32>) -> String {
    holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl fmt::Display for Transient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionLost => "the connection to the database failed",
            Self::ServerUnavailable => "the database is not available",
            Self::ReadOnly => "the database takes no writes",
            Self::TooManyConnections => "the database has no connection to spare",
            Self::PoolTimeout => "no pooled connection came free in time",
            Self::StaleStatement => "a prepared statement no longer fits",
            Self::StatementTimeout => "the statement took too long",
            Self::LockTimeout => "a lock was not had in time",
            Self::Deadlock => "the transaction was aborted in a deadlock",
            Self::SerializationFailure => "concurrent changes prevented the transaction",
            Self::OutOfResources => "the database has run out of a resource",
            Self::Cancelled => "the statement was cancelled",
        })
    }
}
