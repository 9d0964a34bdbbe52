//! An experiment's life: each operation, the guards behind them, a model of the rules, and races.

mod clock_steps;
mod guards;
mod lifecycle;
mod listing;
mod model;
mod publish;
mod races;
mod settled;
mod structure;
