//! What came of an experiment.

mod loss_ledger;
mod reading;
