//! The request to cancel a connection's statement, sent over a connection of its own.
//!
//! tokio-postgres hangs up once the request is sent. PgBouncer 1.18 exits with `bad client state`
//! where a client does so before the request is passed on. As libpq does, this waits until the
//! other end hangs up.

use futures_util::future::{BoxFuture, FutureExt};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use crate::database::refusal::refused;
use crate::database::tls::connector::Connector;
use crate::error::{Cause, Error, Result, Transient};

/// The port of a URL that names none.
const PORT: u16 = 5432;

/// Cancels the running statement of a connection.
pub(crate) struct CancelRequest {
    token: CancelToken,
    /// The only address of the connection's options; `None` of a name that wasn't looked up.
    address: Option<Address>,
    hostname: String,
    tls: Option<Connector>,
}

enum Address {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// A stream that is shut down after the other end is.
struct UntilEnd<S>(S);

/// TLS over such streams.
struct ConnectUntilEnd<T>(T);

impl CancelRequest {
    /// Cancels what `client` runs, which is connected by `config` to one address.
    pub(super) fn new(client: &Client, config: &Config, tls: Option<Connector>) -> Self {
        let port = config.get_ports().first().copied().unwrap_or(PORT);
        let address = match (config.get_hostaddrs().first(), config.get_hosts().first()) {
            (Some(address), _) => Some(Address::Ip((*address, port).into())),
            (None, Some(Host::Unix(directory))) => {
                Some(Address::Unix(directory.join(format!(".s.PGSQL.{port}"))))
            }
            (None, _) => None,
        };
        let hostname = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            _ => String::new(),
        };
        Self { token: client.cancel_token(), address, hostname, tls }
    }

    /// Sends the request. The server doesn't say whether there was a statement.
    pub(super) async fn send(&self) -> Result<()> {
        let sent = match (&self.address, self.tls.clone()) {
            (None, None) => self.token.cancel_query(NoTls).await,
            (None, Some(tls)) => self.token.cancel_query(tls).await,
            (Some(Address::Unix(path)), _) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                self.token.cancel_query_raw(UntilEnd(stream), NoTls).await
            }
            (Some(Address::Ip(address)), None) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                self.token.cancel_query_raw(UntilEnd(stream), NoTls).await
            }
            (Some(Address::Ip(address)), Some(mut tls)) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                let Ok(tls) = MakeTlsConnect::<UntilEnd<TcpStream>>::make_tls_connect(
                    &mut tls,
                    &self.hostname,
                );
                self.token.cancel_query_raw(UntilEnd(stream), ConnectUntilEnd(tls)).await
            }
        };
        sent.map_err(refused)
    }
}

fn unreachable(error: io::Error) -> Error {
    Error::transient(Transient::ConnectionLost, Cause::of(error))
}

impl<S: AsyncRead + Unpin> AsyncRead for UntilEnd<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for UntilEnd<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut space = [0; 64];
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // A server that has hung up may reset the connection.
                _ => return Pin::new(&mut self.0).poll_shutdown(context),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for UntilEnd<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S, T> TlsConnect<S> for ConnectUntilEnd<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = UntilEnd<T::Stream>;
    type Error = T::Error;
    type Future = BoxFuture<'static, Result<Self::Stream, T::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        self.0.connect(stream).map(|stream| stream.map(UntilEnd)).boxed()
    }
}
