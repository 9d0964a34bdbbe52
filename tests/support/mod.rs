//! What the tests share: a server for the process, and a database of its own for each test.

pub mod dump;
pub mod example;
pub mod fixtures;
pub mod german;
pub mod log;
pub mod metrics;
pub mod network;
pub mod postgres;
pub mod queries;
pub mod repository;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use model_experiments::{ConnectOptions, Pool, PoolOptions, Result as ModelResult, migrations};
use sha2::{Digest, Sha256};
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use uuid::Uuid;

use postgres::{Binaries, Server};

/// Every database that a test creates or drops has this prefix.
const PREFIX: &str = "model_experiments_test_";

/// The migrated database of our own servers, from which tests' databases are cloned.
pub const TEMPLATE: &str = "model_experiments_test_template";

/// How to connect to `url`.
#[track_caller]
pub fn options(url: &str) -> ConnectOptions {
    ConnectOptions::parse(url).unwrap()
}

/// A connection to `url`, outside of any pool.
pub async fn connect(url: &str) -> ModelResult<AsyncPgConnection> {
    ConnectOptions::parse(url)?.connect().await
}

/// A database with the schema, for one test. It is dropped with this value.
pub struct TestDatabase {
    cluster: &'static Cluster,
    name: String,
}

/// Where tests' databases are.
enum Cluster {
    /// A private server with the template.
    Ours(Server),
    /// The server of `TEST_DATABASE_URL`: a URL and the options after its database.
    Theirs(String),
}

impl TestDatabase {
    /// A database with the schema.
    pub async fn new() -> Self {
        let database = Self::empty_or_clone(true).await;
        if let Cluster::Theirs(_) = database.cluster {
            migrations::run(&database.options()).await.unwrap();
        }
        database
    }

    /// A database without the schema.
    pub async fn empty() -> Self {
        Self::empty_or_clone(false).await
    }

    /// A database with the schema, on a server whose messages are German. `None`, and says why,
    /// where there is none.
    pub async fn german() -> Option<Self> {
        static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
        let start = || std::thread::spawn(Cluster::start_german).join().unwrap();
        let cluster = CLUSTER.get_or_init(|| start().inspect_err(german::skip).ok()).as_ref()?;
        Some(Self::on(cluster, TEMPLATE, "").await)
    }

    /// A database without the schema, whose encoding is LATIN1.
    pub async fn latin1() -> Self {
        let encoding = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
        Self::on(Cluster::of_process(), "template0", encoding).await
    }

    async fn empty_or_clone(is_clone: bool) -> Self {
        let cluster = Cluster::of_process();
        let template = match cluster {
            Cluster::Ours(_) if is_clone => TEMPLATE,
            _ => "template0",
        };
        Self::on(cluster, template, "").await
    }

    async fn on(cluster: &'static Cluster, template: &str, options: &str) -> Self {
        let name = format!("{PREFIX}{}", Uuid::now_v7().simple());
        let create =
            format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY {options}");
        connect(&cluster.url("postgres")).await.unwrap().batch_execute(&create).await.unwrap();
        Self { cluster, name }
    }

    /// The database's URL.
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// How to connect to the database.
    pub fn options(&self) -> ConnectOptions {
        options(&self.url())
    }

    /// A connection outside of any pool.
    pub async fn connect(&self) -> AsyncPgConnection {
        connect(&self.url()).await.unwrap()
    }

    /// A pool of up to `size` connections.
    pub fn pool(&self, size: usize) -> Pool {
        Pool::new(self.options(), PoolOptions::default().max_size(size)).unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let url = self.cluster.url("postgres");
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A test's runtime can't be blocked on from within.
        let dropped = std::thread::spawn(move || {
            block_on(async { connect(&url).await.unwrap().batch_execute(&sql).await })
        })
        .join();
        if !std::thread::panicking() {
            dropped.unwrap().unwrap();
        }
    }
}

impl Cluster {
    fn of_process() -> &'static Self {
        static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| {
            // Not on the test's own runtime, which is blocked meanwhile.
            std::thread::spawn(Self::start).join().unwrap().map_err(|error| error.to_string())
        });
        cluster.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    fn start() -> io::Result<Self> {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(url) => {
                block_on(refuse_old(&url))?;
                Ok(Self::Theirs(url))
            }
            Err(_) => {
                let binaries = Binaries::find(|message| eprintln!("{message}"))?;
                let template = cached(&binaries)?;
                Ok(Self::Ours(Server::start_with(&binaries, Some(&template), |_| Ok(Vec::new()))?))
            }
        }
    }

    /// A server of our own that is German.
    fn start_german() -> io::Result<Self> {
        let binaries = Binaries::find(|message| eprintln!("{message}"))?;
        Ok(Self::Ours(german::start(&binaries, &cached(&binaries)?)?))
    }

    fn url(&self, database: &str) -> String {
        match self {
            Self::Ours(server) => server.url(database),
            Self::Theirs(url) => {
                let (base, options) = url.split_once('?').unwrap_or((url, ""));
                let authority = base.find("://").map_or(0, |at| at + 3);
                let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
                format!("{}/{database}?{options}", &base[..end])
            }
        }
    }
}

/// A private server with the migrated database [`TEMPLATE`] that standbys can follow.
pub fn primary(binaries: &Binaries, settings: &[&str]) -> Server {
    let binaries = &binaries;
    // Not on the test's own runtime, which is blocked meanwhile.
    let start = || Server::primary(binaries, &cached(binaries)?, settings);
    std::thread::scope(|scope| scope.spawn(start).join().unwrap()).unwrap()
}

/// Waits until `standby` has replayed what `primary` has written.
pub async fn until_replayed(primary: &mut AsyncPgConnection, standby: &mut AsyncPgConnection) {
    let written = "SELECT pg_current_wal_insert_lsn()::text AS text";
    let written = fixtures::text(primary, written).await;
    let replayed =
        format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::int::bigint AS number");
    let has_replayed = async || fixtures::number(standby, &replayed).await == 1;
    fixtures::eventually("the standby has replayed", has_replayed).await;
}

/// A cluster with the migrated template, made once for each version of PostgreSQL and of the
/// schema.
fn cached(binaries: &Binaries) -> io::Result<PathBuf> {
    let cache = postgres::cache()?.join(format!("cluster-{}", fingerprint(binaries)?));
    if !cache.is_dir() {
        let server = Server::start(binaries)?;
        let (maintenance, template) = (server.url("postgres"), server.url(TEMPLATE));
        block_on(async {
            let conn = &mut connect(&maintenance).await.map_err(io::Error::other)?;
            let create = format!("CREATE DATABASE {TEMPLATE}");
            conn.batch_execute(&create).await.map_err(io::Error::other)?;
            migrations::run(&options(&template)).await.map_err(io::Error::other)
        })?;
        server.save(&cache)?;
    }
    Ok(cache)
}

/// Changes when PostgreSQL or a migration does.
fn fingerprint(binaries: &Binaries) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(binaries.version());
    for migration in repository::migrations() {
        hash.update(migration.name);
        hash.update(migration.up);
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

async fn refuse_old(url: &str) -> io::Result<()> {
    let conn = &mut connect(url).await.map_err(io::Error::other)?;
    let version = fixtures::setting(conn, "server_version_num").await;
    if version.parse::<u32>().is_ok_and(|version| version >= 15_00_00) {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "TEST_DATABASE_URL leads to PostgreSQL {version}: 15 or newer is needed"
        )))
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
