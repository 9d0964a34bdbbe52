//! A network that drops everything: the server and its client have a network namespace each, with a
//! cable between them.

use model_experiments::migrations;
use std::process::Command;
use std::time::Duration;
use tokio::task::spawn_blocking;

use crate::process::{Worker, report};
use crate::silence::assert_in_time;
use crate::silence::measure::{Link, Measured, measure};
use crate::skip;
use crate::support::options;
use crate::support::postgres::{Binaries, Server};

/// The server's address, in its namespace and the client's.
const SERVER: &str = "10.97.0.1";
const CLIENT: &str = "10.97.0.2";

/// The hardware address of the server's end. It is told to the client, which would otherwise ask
/// for it and learn from the silence that there is no host.
const HARDWARE: &str = "02:00:00:00:00:01";

/// What starts a process in a namespace of its own.
const UNSHARE: [&str; 2] = ["unshare", "--net"];

/// The longest run.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a program with the words of `command`.
fn run(command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// Runs a program in the namespace of the server.
fn run_at_server(command: &str) {
    let server = std::env::var("SERVER_PID").unwrap();
    run(&format!("nsenter --target {server} --net {command}"));
}

/// A cable to the server, of which the server's end can be unplugged.
struct Cable;

impl Cable {
    fn plug() -> Self {
        let server = std::env::var("SERVER_PID").unwrap();
        run(&format!("ip link add client type veth peer name server netns {server}"));
        run_at_server(&format!("ip link set server address {HARDWARE} up"));
        run_at_server(&format!("ip address add {SERVER}/30 dev server"));
        run("ip link set client up");
        run(&format!("ip address add {CLIENT}/30 dev client"));
        run(&format!("ip neighbour replace {SERVER} lladdr {HARDWARE} dev client nud permanent"));
        Self
    }
}

impl Link for Cable {
    fn silence(&mut self) {
        run_at_server("ip link set server down");
    }

    fn mend(&mut self) {
        run_at_server("ip link set server up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_drops_everything() {
    let can_unshare = Command::new("unshare").args(["--net", "ip", "link"]).output();
    if !can_unshare.is_ok_and(|output| output.status.success()) {
        return skip("network namespaces need root, unshare and ip");
    }
    let worker = || Worker::start(&UNSHARE, "silence::namespace::server", [("SILENCE", "1")]);
    let measured: Measured = spawn_blocking(move || worker().wait(LIMIT)).await.unwrap();
    assert_in_time("a network that drops everything", &measured);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as a process that another test starts"]
async fn server() {
    if std::env::var_os("SILENCE").is_none() {
        return;
    }
    run("ip link set lo up");
    let server = Server::start_with(&Binaries::find(|_| {}).unwrap(), None, |directory| {
        let file = directory.join("hba");
        std::fs::write(&file, "local all all trust\nhost all all 10.97.0.0/30 trust\n")?;
        Ok(vec![format!("hba_file={}", file.display()), "listen_addresses=*".to_owned()])
    })
    .unwrap();
    migrations::run(&options(&server.url("postgres"))).await.unwrap();
    let variables =
        [("SERVER_PID", std::process::id().to_string()), ("DIRECT_URL", server.url("postgres"))];
    let client = move || Worker::start(&UNSHARE, "silence::namespace::client", variables);
    let measured: Measured = spawn_blocking(move || client().wait(LIMIT)).await.unwrap();
    report(&measured);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as a process that another test starts"]
async fn client() {
    let Ok(direct) = std::env::var("DIRECT_URL") else { return };
    let mut cable = Cable::plug();
    let url = format!("postgres://postgres@{SERVER}/postgres");
    report(&measure(&url, &direct, &mut cable).await);
}
