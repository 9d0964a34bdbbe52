//! Connecting to PostgreSQL: one host after another, over TLS where the URL asks for it.

use diesel_async::AsyncPgConnection;
use futures_util::FutureExt;
use std::fmt;
use std::iter::once;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

use crate::database::cancel::CancelRequest;
use crate::database::cancel_key::process_id;
use crate::database::driver::{self, Inquiry, Messages, drive_during};
use crate::database::host::HostAddress;
use crate::database::inquiries::Inquiries;
use crate::database::language::warn_once;
use crate::database::pooling::{Pooler, Pooling, require_tracking};
use crate::database::refusal::{refused, unusable};
use crate::database::server::ServerState;
use crate::database::session::Session;
use crate::database::settings::{self, Setting};
use crate::database::target::TargetSession;
use crate::database::tls::connector::Connector;
use crate::database::url::{self, Parsed};
use crate::error::{Cause, Error, Result, Transient};
use crate::values::indexable;

/// The longest statement, unless the URL or the caller says otherwise.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest wait for an answer after the server should have ended the statement.
const GRACE: Duration = Duration::from_secs(5);

/// Where and how to connect. One value serves a [`Pool`](crate::Pool), a
/// [`Recorder`](crate::Recorder), a [`RoutingCache`](crate::RoutingCache) and the
/// [`migrations`](crate::migrations).
///
/// ```
/// use model_experiments::ConnectOptions;
///
/// # fn main() -> model_experiments::Result<()> {
/// let options = ConnectOptions::parse("postgres://gateway@db.example/app?sslmode=require")?
///     .application_name("gateway");
/// # Ok(())
/// # }
/// ```
///
/// # Hosts
///
/// The hosts of the URL are tried in order, and each address of a host's name. Each has
/// `connect_timeout` to accept the connection, encrypt it and answer, 5 seconds unless the URL says
/// otherwise, so that a server that accepts connections and says nothing doesn't keep the next from
/// being tried. Of several hosts, the primary is taken, unless [`target_session`] says otherwise. A
/// server that refuses the role, its password or the database ends the search.
///
/// [`target_session`]: Self::target_session
///
/// # Poolers
///
/// A pooler that shares a session between transactions must keep the prepared statements of its
/// clients apart, as PgBouncer does from version 1.21 on, where `max_prepared_statements` isn't
/// zero. Otherwise one client would execute the statements of another. A connection is refused
/// where that can't be told, until [`pooler`] says that the pooler shares no session. [The
/// guide](crate::guide::scale_out) lists the settings.
///
/// [`pooler`]: Self::pooler
///
/// # Silence
///
/// A statement that the server doesn't answer within the statement timeout and 5 seconds fails with
/// [`Transient::ConnectionLost`], and its connection is closed. Diesel's instrumentation shows when
/// a statement begins: a connection on which a user sets another has no such limit. A statement
/// whose future was dropped counts as unanswered until a later one is answered. Of statements that
/// are pipelined over one connection, only the wait for the first answer has this limit.
///
/// Where the URL names several hosts, or a statement has no timeout, a host that leaves a statement
/// unanswered for 3 seconds is asked over another connection, at most every 3 seconds. If it
/// doesn't answer that within `connect_timeout` either, as a frozen one doesn't, the connection is
/// closed at once, and the other hosts are tried first for 30 seconds. A pooler isn't asked.
///
/// Unless the URL says otherwise, a network that carries nothing any more is noticed within seconds
/// by TCP itself.
#[derive(Clone)]
#[must_use]
pub struct ConnectOptions {
    /// Everything but the host.
    config: Config,
    hosts: Vec<HostAddress>,
    in_random_order: bool,
    tls: Option<Connector>,
    connect_timeout: Duration,
    target: Option<TargetSession>,
    pooler: Option<Pooler>,
    statement_timeout: Duration,
    /// Settings of the URL.
    settings: Vec<Setting>,
    /// Settings that matter only where a session keeps them.
    session_settings: Vec<Setting>,
    inquiries: Arc<Inquiries>,
}

/// A connection, its session, and how long that stays with it.
pub(crate) struct Connected {
    pub(crate) conn: AsyncPgConnection,
    pub(super) session: Session,
    pub(crate) pooling: Pooling,
    pub(super) cancel: CancelRequest,
}

/// A connection without Diesel. Its messages are to be polled.
pub(crate) struct ConnectedClient {
    pub(crate) client: Client,
    pub(crate) messages: Messages,
    pub(crate) pooling: Pooling,
    host: HostAddress,
    cancel: CancelRequest,
}

impl ConnectOptions {
    /// Parses PostgreSQL's own URL, and reads the certificates that it names.
    ///
    /// [The guide](crate::guide::connection_urls) says what becomes of each parameter of libpq.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the URL or a certificate can't be used.
    pub fn parse(url: &str) -> Result<Self> {
        let Parsed {
            config,
            hosts,
            load_balance,
            connect_timeout,
            target,
            pooler,
            settings,
            statement_timeout,
            tls,
        } = url::parse(url)?;
        Ok(Self {
            config,
            hosts,
            in_random_order: load_balance,
            tls,
            connect_timeout,
            target,
            pooler,
            statement_timeout: statement_timeout.unwrap_or(STATEMENT_TIMEOUT),
            settings: settings.into_iter().map(|(name, value)| Setting { name, value }).collect(),
            session_settings: Vec::new(),
            inquiries: Arc::default(),
        })
    }

    /// The name under which the server shows the connection, at most 2,048 bytes. Connecting
    /// refuses another.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.config.application_name(name);
        self
    }

    /// The longest time that the server lets a statement run. The default is 30 seconds. Zero is no
    /// limit, except within this crate's transactions, where a statement then has 30 seconds.
    ///
    /// Behind a pooler that shares a session between transactions, the server has no such timeout,
    /// unless the role or the database sets one: a statement within this crate's transactions has
    /// 30 seconds, a recorder's its `write_timeout`. Here too, an answer is waited for no longer
    /// than this timeout and 5 seconds.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// The servers that a connection may be made to. By default it is the primary where the URL
    /// names several hosts, and any server where it names one.
    ///
    /// A [`Recorder`](crate::Recorder) and a [`RoutingCache`](crate::RoutingCache) connect to a
    /// primary in any case, unless the cache is allowed a standby. So do the
    /// [`migrations`](crate::migrations) where one is pending.
    pub fn target_session(mut self, target: TargetSession) -> Self {
        self.target = Some(target);
        self
    }

    /// How a pooler between here and the server shares sessions, where that can't be told.
    pub fn pooler(mut self, pooler: Pooler) -> Self {
        self.pooler = Some(pooler);
        self
    }

    /// Sets a server setting where a session keeps it.
    pub(crate) fn session_setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.session_settings.push(Setting { name: name.to_owned(), value: value.into() });
        self
    }

    /// Takes a server that isn't a standby.
    pub(crate) fn primary(self) -> Self {
        self.target_session(TargetSession::Primary)
    }

    /// Gives each host at most `timeout` to answer.
    pub(crate) fn connect_within(mut self, timeout: Duration) -> Self {
        self.connect_timeout = self.connect_timeout.min(timeout);
        self
    }

    /// Refuses what no server takes.
    pub(crate) fn check(&self) -> Result<()> {
        // The server keeps 63 bytes of it.
        let name = self.config.get_application_name().unwrap_or_default();
        indexable("application_name", name).map_err(unusable)
    }

    /// The servers that a connection may be made to.
    pub(super) fn target(&self) -> TargetSession {
        self.target.unwrap_or(match self.hosts.len() {
            1 => TargetSession::Any,
            _ => TargetSession::Primary,
        })
    }

    /// Sets what a session of its own keeps.
    pub(super) fn settings_sql(&self) -> String {
        let statement_timeout = Setting::statement_timeout(self.statement_timeout);
        let settings = self.settings.iter().chain(&self.session_settings);
        settings::sql(once(&statement_timeout).chain(settings))
    }

    /// Connects, outside of any pool.
    ///
    /// The server finishes a statement whose future was dropped, as long as its timeout allows. A
    /// [`Pool`](crate::Pool) cancels it; here, [`AsyncPgConnection::cancel_token`] does, but not
    /// behind PgBouncer 1.18, which [exits](crate::guide::scale_out).
    ///
    /// Notifications that arrive on the connection are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Transient`] when no server can be reached or none is of the kind that is asked for,
    /// [`Error::Configuration`] when one refuses the connection or its certificate.
    pub async fn connect(&self) -> Result<AsyncPgConnection> {
        Ok(self.connect_session().await?.conn)
    }

    /// Connects, and watches the session.
    pub(crate) async fn connect_session(&self) -> Result<Connected> {
        let ConnectedClient { client, mut messages, pooling, host, cancel } =
            self.connect_client().await?;
        let limit = (!self.statement_timeout.is_zero()).then(|| self.statement_timeout + GRACE);
        let session = Session::new(limit);
        // There is a host to go on to, or no other end of a statement. A pooler may have no session
        // to spare for the inquiry.
        let is_needed = self.hosts.len() > 1 || limit.is_none();
        let is_asked = is_needed && pooling == Pooling::None;
        let inquiry = is_asked.then(|| {
            let (connect, host) = (Arc::new(self.clone()), Arc::new(host));
            Box::new(move || {
                let (connect, host) = (Arc::clone(&connect), Arc::clone(&host));
                async move { connect.is_silent(&host).await }.boxed()
            }) as Inquiry
        });
        let connected =
            async { AsyncPgConnection::try_from(client).await.map_err(Error::from_connection) };
        let connected = drive_during(&mut messages, connected);
        let mut conn = answered(self.connect_timeout, connected).await?;
        session.watch(&mut conn);
        driver::spawn(messages, session.clone(), inquiry);
        Ok(Connected { conn, session, pooling, cancel })
    }

    /// Connects without Diesel, to the first host that can be had.
    pub(crate) async fn connect_client(&self) -> Result<ConnectedClient> {
        self.check()?;
        let mut hosts: Vec<_> = self.hosts.iter().collect();
        if self.in_random_order {
            fastrand::shuffle(&mut hosts);
        }
        hosts.sort_by_key(|host| self.inquiries.was_silent(host));
        let mut failures = Vec::new();
        for &target in self.target().passes() {
            for &host in &hosts {
                match self.connect_to_host(host, target).await {
                    Err(error @ Error::Transient { .. }) => failures.push((host, error)),
                    // Another host would say the same of the role or the password.
                    connected => return connected,
                }
            }
        }
        Err(all_failed(failures))
    }

    /// Whether the host doesn't answer a new connection, as a frozen one doesn't.
    async fn is_silent(&self, host: &HostAddress) -> bool {
        let ask = async {
            let Ok(addresses) = answered(self.connect_timeout, host.addresses()).await else {
                return false;
            };
            for address in &addresses {
                let connected = self.connect_to_address(host, *address, TargetSession::Any);
                // A refusal is an answer, too.
                if timeout(self.connect_timeout, connected).await.is_ok() {
                    return false;
                }
            }
            !addresses.is_empty()
        };
        self.inquiries.is_silent(host, ask).await
    }

    /// Connects to the first address of the host that can be had.
    async fn connect_to_host(
        &self,
        host: &HostAddress,
        target: TargetSession,
    ) -> Result<ConnectedClient> {
        let mut failure = None;
        for address in answered(self.connect_timeout, host.addresses()).await? {
            let connected = self.connect_to_address(host, address, target);
            match answered(self.connect_timeout, connected).await {
                Err(error @ Error::Transient { .. }) => failure = Some(error),
                connected => return connected,
            }
        }
        let no_address = || Error::transient(Transient::ConnectionLost, "the host has no address");
        Err(failure.unwrap_or_else(no_address))
    }

    /// Connects to one address, and prepares the session.
    async fn connect_to_address(
        &self,
        host: &HostAddress,
        address: Option<IpAddr>,
        target: TargetSession,
    ) -> Result<ConnectedClient> {
        let config = host.config(&self.config, address);
        let (client, mut messages) = match self.tls.clone() {
            Some(tls) => {
                let (client, connection) = config.connect(tls).await.map_err(refused)?;
                (client, driver::messages(connection))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
                (client, driver::messages(connection))
            }
        };
        let prepared = self.prepare(&client, target);
        let pooling = drive_during(&mut messages, prepared).await?;
        let cancel = CancelRequest::new(&client, host, address, self.tls.clone());
        Ok(ConnectedClient { client, messages, pooling, host: host.clone(), cancel })
    }

    /// Finds out what is at the other end, and sets what its session keeps.
    async fn prepare(&self, client: &Client, target: TargetSession) -> Result<Pooling> {
        let server = ServerState::of(client).await?;
        warn_once(&server.lc_messages);
        if !target.accepts(server.role) {
            return Err(target.mismatch());
        }
        let is_direct = process_id(&client.cancel_token()).await == Some(server.process_id);
        let pooling = match self.pooler {
            _ if is_direct => Pooling::None,
            Some(Pooler::Session) => Pooling::Session,
            None => Pooling::Transaction,
        };
        if pooling.keeps_session() {
            client.batch_execute(&self.settings_sql()).await.map_err(refused)?;
            return Ok(pooling);
        }
        require_tracking(client).await?;
        match self.settings.first() {
            Some(setting) => Err(setting.not_kept()),
            None => Ok(pooling),
        }
    }
}

/// Shows no password.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(|host| &host.host).collect();
        f.debug_struct("ConnectOptions")
            .field("hosts", &hosts)
            .field("database", &self.config.get_dbname())
            .field("application_name", &self.config.get_application_name())
            .finish_non_exhaustive()
    }
}

/// The answer, if it comes in time. Otherwise the connection counts as lost.
pub(crate) async fn answered<T>(
    within: Duration,
    asked: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(within, asked).await.unwrap_or_else(|_| {
        Err(Error::transient(Transient::ConnectionLost, format!("no answer within {within:?}")))
    })
}

/// The last error of several hosts, with the words of all.
fn all_failed(mut failures: Vec<(&HostAddress, Error)>) -> Error {
    match (failures.len(), failures.pop()) {
        (_, None) => Error::configuration("the connection URL names no host"),
        (1, Some((_, error))) => error,
        (_, Some((host, Error::Transient { kind, cause }))) => {
            let mut message = String::new();
            for (host, error) in &failures {
                message.push_str(&format!("{host}: {error}; "));
            }
            message.push_str(&format!("{host}: {cause}"));
            Error::transient(kind, Cause::new(message, cause))
        }
        (_, Some((_, error))) => error,
    }
}
