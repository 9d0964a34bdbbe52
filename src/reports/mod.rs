//! What came of it: an experiment as a whole, what its versions served, and what was lost.

pub mod feedback;
pub mod loss_ledger;
pub mod overview;
pub mod summary;
