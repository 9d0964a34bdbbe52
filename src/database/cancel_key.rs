//! The process id in the cancel key of a connection.
//!
//! tokio-postgres keeps the server's `BackendKeyData` to itself. It writes it into a request to
//! cancel, as the protocol has it: a length, a code, the process id and a secret.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Bytes of a request to cancel.
const REQUEST: usize = 16;

/// Keeps what is written to it, and agrees to TLS.
#[derive(Clone, Default)]
struct RequestSink(Arc<Mutex<Vec<u8>>>);

/// TLS that leaves the request as it is.
struct NoEncryption;

/// The process id that the server, or a pooler, gave the client.
pub(super) async fn process_id(token: &CancelToken) -> Option<i32> {
    let server = RequestSink::default();
    token.cancel_query_raw(server.clone(), NoEncryption).await.ok()?;
    let written = server.0.lock().unwrap_or_else(PoisonError::into_inner);
    let request: &[u8; REQUEST] = written.last_chunk()?;
    let [.., a, b, c, d, _, _, _, _] = *request;
    Some(i32::from_be_bytes([a, b, c, d]))
}

impl AsyncRead for RequestSink {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The answer to a request for TLS.
        buffer.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RequestSink {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for RequestSink {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl TlsConnect<RequestSink> for NoEncryption {
    type Stream = RequestSink;
    type Error = io::Error;
    type Future = Ready<io::Result<RequestSink>>;

    fn connect(self, stream: RequestSink) -> Self::Future {
        ready(Ok(stream))
    }
}
