//! Networks and servers that fall silent: nobody closes the connection, and nothing arrives.

mod measure;
mod namespace;

use model_experiments::migrations;
use std::time::Duration;

use crate::silence::measure::{Link, Measured, measure};
use crate::support::network::Network;
use crate::support::postgres::{Binaries, Server};
use crate::support::{TestDatabase, options};

/// The longest wait for an answer of [`Pool::health`](model_experiments::Pool::health).
const HEALTH: Duration = Duration::from_secs(5);

/// The longest wait for a connection after the network's return.
const RETURN: Duration = Duration::from_secs(10);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);

/// Fails unless everything ended in time.
fn assert_in_time(what: &str, measured: &Measured) {
    println!("{what}: {measured:#?}");
    assert!(measured.health < HEALTH);
    assert!(measured.health_again < HEALTH);
    assert!(measured.in_flight < measure::STATEMENT_TIMEOUT + HEALTH + SLACK);
    assert!(measured.served_again < RETURN);
    assert!(measured.is_another_connection);
}

/// A proxy that accepts, and says nothing.
impl Link for Network {
    fn silence(&mut self) {
        Self::silence(self);
    }

    fn mend(&mut self) {
        Self::mend(self);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_says_nothing() {
    let database = TestDatabase::new().await;
    let mut network = Network::to(&database.url()).await;
    let url = network.url().to_owned();
    let measured = measure(&url, &database.url(), &mut network).await;
    assert_in_time("a proxy that says nothing", &measured);
}

/// A server that stops where it is. The kernel still accepts connections for it.
impl Link for Server {
    fn silence(&mut self) {
        self.freeze().unwrap();
    }

    fn mend(&mut self) {
        self.thaw().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server() {
    let mut server = Server::start(&Binaries::find(|_| {}).unwrap()).unwrap();
    let url = server.url("postgres");
    migrations::run(&options(&url)).await.unwrap();
    let measured = measure(&url, &url, &mut server).await;
    assert_in_time("a frozen server", &measured);
}
