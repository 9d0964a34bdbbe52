//! The guide, task by task.
//!
//! | Task | Page |
//! |---|---|
//! | Create an experiment and activate it | [`first_experiment`] |
//! | Replace a checkpoint or a key while traffic runs | [`swapping`] |
//! | Decide who serves a request | [`routing`] |
//! | Record what was served | [`recording`] |
//! | Read what came of it | [`reading`] |
//! | Write the URL of a connection | [`connection_urls`] |
//! | Run behind a pooler, on standbys, through a failover, on Citus | [`scale_out`] |
//! | Keep prompts, and delete them | [`prompts`] |
//! | Test a service that links this crate | [`testing_your_service`] |
//!
//! For those who change the crate: [`architecture`], [`testing`], [`benchmarks`], [`dependencies`].

#[doc = include_str!("../docs/guide/first_experiment.md")]
pub mod first_experiment {}

#[doc = include_str!("../docs/guide/swapping.md")]
pub mod swapping {}

#[doc = include_str!("../docs/guide/routing.md")]
pub mod routing {}

#[doc = include_str!("../docs/guide/recording.md")]
pub mod recording {}

#[doc = include_str!("../docs/guide/reading.md")]
pub mod reading {}

#[doc = include_str!("../docs/guide/testing_your_service.md")]
pub mod testing_your_service {}

#[doc = include_str!("../docs/connection-urls.md")]
pub mod connection_urls {}

#[doc = include_str!("../docs/scale-out.md")]
pub mod scale_out {}

#[doc = include_str!("../docs/prompts.md")]
pub mod prompts {}

#[doc = include_str!("../docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/benchmarks.md")]
pub mod benchmarks {}

#[doc = include_str!("../docs/dependencies.md")]
pub mod dependencies {}
