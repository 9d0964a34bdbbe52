//! The request to cancel a connection's statement, sent over a connection of its own.
//!
//! tokio-postgres hangs up once the request is sent. PgBouncer 1.18 exits with `bad client state`
//! where a client does so before the request is passed on. As libpq does, this waits until the
//! other end hangs up.

use futures_util::future::{BoxFuture, FutureExt};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, NoTls};

use crate::database::host::HostAddress;
use crate::database::refusal::refused;
use crate::database::tls::connector::Connector;
use crate::error::{Cause, Error, Result, Transient};

/// Cancels the running statement of a connection.
pub(crate) struct CancelRequest {
    token: CancelToken,
    host: HostAddress,
    address: Option<IpAddr>,
    tls: Option<Connector>,
}

/// A stream that is shut down after the other end is.
struct UntilEnd<S>(S);

/// TLS over such streams.
struct ConnectUntilEnd<T>(T);

impl CancelRequest {
    /// Cancels what `client` runs, which is connected to this address of the host.
    pub(super) fn new(
        client: &Client,
        host: &HostAddress,
        address: Option<IpAddr>,
        tls: Option<Connector>,
    ) -> Self {
        Self { token: client.cancel_token(), host: host.clone(), address, tls }
    }

    /// Sends the request. The server doesn't say whether there was a statement.
    pub(super) async fn send(&self) -> Result<()> {
        let HostAddress { host, port, .. } = &self.host;
        let connected = match (self.address, host) {
            (Some(address), _) => TcpStream::connect((address, *port)).await,
            (None, Host::Tcp(name)) => TcpStream::connect((name.as_str(), *port)).await,
            (None, Host::Unix(directory)) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                let sent = self.token.cancel_query_raw(UntilEnd(stream), NoTls).await;
                return sent.map_err(refused);
            }
        };
        let stream = UntilEnd(connected.map_err(unreachable)?);
        let sent = match self.tls.clone() {
            None => self.token.cancel_query_raw(stream, NoTls).await,
            Some(mut tls) => {
                let name = match host {
                    Host::Tcp(name) => name,
                    Host::Unix(_) => "",
                };
                let Ok(tls) =
                    MakeTlsConnect::<UntilEnd<TcpStream>>::make_tls_connect(&mut tls, name);
                self.token.cancel_query_raw(stream, ConnectUntilEnd(tls)).await
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
