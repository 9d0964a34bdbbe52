//! Faults wherever there can be some while rows are recorded, and what became of each row.

mod instruments;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../support/mod.rs"]
mod support;
mod wire;

use model_experiments::{connection, migrations};
use support::fixtures::active;
use support::postgres::{Binaries, Server};

#[tokio::main]
async fn main() {
    let server = Server::durable(&Binaries::find(|_| {}).unwrap(), &[]).unwrap();
    let url = server.url("postgres");
    migrations::run(&url).await.unwrap();
    let ready = active(&mut connection::connect(&url).await.unwrap(), "partner/foo").await;
    instruments::check(&url, ready.control_version.id).await;
    println!("ok");
}
