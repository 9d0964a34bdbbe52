//! The examples, run as their readers run them.

mod gateway;
mod tour;
