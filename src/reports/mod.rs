//! What came of an experiment: its overview, what its versions served, which version users rated,
//! and what was lost.
//!
//! Windows are half-open: the start is in, the end is not. Every function may also fail with
//! [`Error::Transient`](crate::Error::Transient) or [`Error::Database`](crate::Error::Database).

pub mod feedback;
pub mod loss_ledger;
pub mod overview;
pub mod summary;
