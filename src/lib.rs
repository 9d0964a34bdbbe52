//! A/B tests of preview LLM checkpoints behind a gateway, on PostgreSQL, with every query checked
//! by the compiler.
//!
//! # Why
//!
//! A preview model is served by several checkpoints, which are replaced while traffic runs. This
//! crate decides which checkpoint serves a user, keeps the decision stable, records which version
//! served each request, and refuses whatever would make the comparison untrue. It is a library: a
//! backend service links it, and the tables stand in the service's own database.
//!
//! # Example
//!
//! ```no_run
//! use model_experiments::experiments::{self, NewExperiment, NewVersion};
//! use model_experiments::recording::{NewRequest, Record, Usage};
//! use model_experiments::routing::{Route, Subject};
//! use model_experiments::secrecy::SecretString;
//! use model_experiments::values::{ApiKeyCipher, Label, PublicModelId, Upstream, Weight};
//! use model_experiments::{
//!     ConnectOptions, Pool, PoolOptions, Recorder, RecorderOptions, RoutingCache, RoutingOptions,
//!     migrations, serde_json,
//! };
//! use std::time::Duration;
//!
//! # async fn example(database_url: &str, master: SecretString, partner_key: SecretString)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConnectOptions::parse(database_url)?.application_name("gateway");
//! migrations::run(&options).await?;
//! let cipher = ApiKeyCipher::new(&master)?;
//!
//! // An operator's tool
//! let pool = Pool::new(options.clone(), PoolOptions::default())?;
//! let conn = &mut pool.get().await?;
//! let model = PublicModelId::new("partner/preview-foo")?;
//! let draft = experiments::create(conn, &NewExperiment::new(model, "Foo: rc1")).await?;
//! let (label, weight) = (Label::new("control")?, Weight::new(1)?);
//! let control = experiments::add_variant(conn, draft.id, &label, weight).await?;
//! let upstream = Upstream::from_json(serde_json::json!({
//!     "internal_id": "foo-rc1",
//!     "base_url": "https://partner.example/v1",
//! }))?;
//! let key = cipher.encrypt(&partner_key)?;
//! experiments::publish(conn, control.id, NewVersion::with_key(&upstream, &key)).await?;
//! experiments::activate(conn, draft.id).await?;
//!
//! // The gateway, at its start
//! let routing = RoutingCache::start(&options, RoutingOptions::default()).await?;
//! let recorder = Recorder::start(&options, RecorderOptions::default()).await?;
//!
//! // On every request: no wait, no allocation
//! match routing.pick("partner/preview-foo", Subject::user("user-7").or_ip("192.0.2.1")) {
//!     Route::Serve(served) => {
//!         let api_key = served.api_key(&cipher)?;
//!         // Call served.upstream() with api_key, answer, then record.
//!         let usage = Usage { input_tokens: 1_200, output_tokens: 80, ..Usage::new("user-7") };
//!         let request = NewRequest::served_by(&served);
//!         let receipt = recorder.submit(Record::new(usage, request)).await?;
//!         let _outcome = receipt.await?;
//!     }
//!     Route::Paused => { /* 404 */ }
//!     Route::Unavailable(reason) => eprintln!("503: {reason}"),
//!     Route::NotExperimented => { /* the default route */ }
//! }
//!
//! // At its end
//! for lost in recorder.shutdown(Duration::from_secs(30)).await {
//!     eprintln!("{lost}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! | Module | Answers |
//! |---|---|
//! | [`experiments`] | An experiment's life: structure, publish, activate, pause, complete |
//! | [`routing`] | Who serves a request: bucketing, decisions, the [`RoutingCache`] |
//! | [`recording`] | What was served: usages and requests, the [`Recorder`] |
//! | [`reports`] | What came of it: overview, sums, feedback, loss ledger |
//! | [`migrations`] | The schema, applied by the service |
//! | [`values`] | The types that these are made of, which hold no bad value |
//! | [`error`] | What can go wrong, by cause |
//! | [`schema`] | Diesel's tables, for queries of your own |
//! | [`guide`] | How to, task by task |
//!
//! [`ConnectOptions`] and [`Pool`] lead to the database. Every query takes `&mut AsyncPgConnection`
//! first, so that it joins a transaction of yours.
//!
//! # Concepts
//!
//! ```text
//! model_experiment          what clients ask for: a public model id
//!   └─ model_experiment_variant            a stable slot with a weight: users are bucketed into it
//!        └─ model_experiment_variant_version      an upstream and a key, from an instant on
//!             └─ model_experiment_request                which version served a request
//!                  └─ microdollar_usage                      what the request used and cost, 1:1
//! ```
//!
//! - A **variant** never changes once its experiment has left draft, so that a user's variant never
//!   does.
//! - A **version** is immutable. A hot swap publishes another. The current one has the latest
//!   `effective_at` that has come.
//! - A **request** holds no prompt, only hashes under which the host keeps it.
//!
//! ```text
//!            activate            pause
//!   draft ─────────────▶ active ───────▶ paused
//!     │                    │  ◀───────     │
//!     │ delete             │   activate    │
//!     ▼                    └──────┬────────┘
//!   (gone)                        ▼ complete
//!                             completed
//! ```
//!
//! # Errors and retries
//!
//! Every fallible call returns [`Error`], an enum by cause. It keeps the error that it comes from
//! as its source, and never contains a key or a prompt. [`Error::is_retryable`] says whether the
//! same call may succeed later. Whether a repetition is harmless:
//!
//! | Operation | Repeat it after a lost connection |
//! |---|---|
//! | Recording, attributing | Yes: ids are made once |
//! | Activate, pause, complete, archive | Yes: a transition that holds is a no-op |
//! | Create, add a variant, publish | Look first whether it is there |
//!
//! The [`Recorder`] and the [`RoutingCache`] retry by themselves.
//!
//! # Cancellation
//!
//! Every future may be dropped. An operation that is dropped in the middle may leave its
//! transaction open on that connection. The connection then refuses everything with a retryable
//! error, and closing it rolls the transaction back. The [`Pool`] cancels what still runs, and
//! closes it. A record that [`Recorder::submit`] took is written whether or not anybody awaits its
//! receipt.
//!
//! # Pooling
//!
//! One [`ConnectOptions`] serves all who connect. The [`Pool`] is for operators' tools and reports.
//! A [`RoutingCache`] has two connections of its own: on one it listens for notifications. A
//! [`Recorder`] has one connection for each of its writers, and one for retries.
//!
//! Behind a pooler, on a standby, through a failover or on Citus, see [`guide::scale_out`].
//!
//! # Security
//!
//! `SECURITY.md` in the repository says what is promised to whom, and `docs/privileges.md` which
//! privileges each operation needs. The database driver logs the parameters of statements at the
//! level `DEBUG`: keep `tokio_postgres` at `INFO`.
//!
//! # Testing your own service
//!
//! See [`guide::testing_your_service`]: a migrated template database, cloned for each test.
//!
//! # Feature flags
//!
//! There are none.

mod database;
pub mod error;
pub mod experiments;
pub mod guide;
pub mod recording;
pub mod reports;
pub mod routing;
#[expect(missing_docs, reason = "generated: the database's comments document tables and columns")]
pub mod schema;
mod sql;
mod tables;
pub mod values;

pub use crate::database::connect::ConnectOptions;
pub use crate::database::migrations;
pub use crate::database::pool::{Health, Pool, PoolOptions, PoolStatus};
pub use crate::database::pooled_connection::PooledConnection;
pub use crate::database::pooling::Pooler;
pub use crate::database::target::TargetSession;
pub use crate::error::{Error, Result};
pub use crate::recording::{Recorder, RecorderOptions};
pub use crate::routing::{RoutingCache, RoutingOptions};
pub use crate::sql::page::{Cursor, Page};
pub use diesel_async::{AsyncConnection, AsyncPgConnection};
pub use {chrono, secrecy, serde_json, uuid};

#[cfg(test)]
extern crate self as model_experiments;
#[cfg(test)]
#[path = "../tests/registry/mod.rs"]
mod registry;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
