//! Values that break a rule of their type, and secrets.

mod bad_input;
mod secrets;
mod unreadable;
