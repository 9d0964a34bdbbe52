//! TLS by rustls for the driver.

use futures_util::future::{BoxFuture, FutureExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::database::tls::channel_binding::binding;
use crate::database::tls::client_certificate::Asked;

/// What encrypts connections.
#[derive(Clone)]
pub(in crate::database) struct Connector {
    pub(super) config: Arc<ClientConfig>,
    /// Whether the server must ask for the client's certificate.
    pub(super) must_ask: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Connector {
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        Ok(Handshake { connector: self.clone(), host: host.to_owned() })
    }
}

/// The handshake of one connection.
pub(in crate::database) struct Handshake {
    connector: Connector,
    host: String,
}

impl Handshake {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(self, socket: S) -> io::Result<Encrypted<S>> {
        // A link-local address names the interface after a %.
        let host = self.host.split('%').next().unwrap_or_default().to_owned();
        let name = ServerName::try_from(host).map_err(|error| refused(error.to_string()))?;
        let mut config = self.connector.config;
        let mut asked = None;
        if self.connector.must_ask {
            let config = Arc::make_mut(&mut config);
            let certificate = Arc::new(Asked::new(Arc::clone(&config.client_auth_cert_resolver)));
            config.client_auth_cert_resolver = Arc::clone(&certificate) as _;
            asked = Some(certificate);
        }
        let protocols = config.alpn_protocols.clone();
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        if asked.is_some_and(|asked| !asked.is_asked()) {
            return Err(refused(
                "the server didn't ask for the client's certificate, as sslcertmode=require demands",
            ));
        }
        if !protocols.is_empty() && stream.get_ref().1.alpn_protocol().is_none() {
            return Err(refused("the server doesn't know sslnegotiation=direct"));
        }
        Ok(Encrypted(stream))
    }
}

/// Not an error of the network.
fn refused(reason: impl Into<String>) -> io::Error {
    io::Error::other(rustls::Error::General(reason.into()))
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Encrypted<S>>>;

    fn connect(self, socket: S) -> Self::Future {
        self.run(socket).boxed()
    }
}

/// An encrypted connection.
pub(in crate::database) struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates().unwrap_or_default();
        let hash = certificates.first().and_then(binding);
        hash.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
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
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
