//! A network between a client and the server that can be cut.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use url::Url;

/// A port that leads to a server for as long as the link is up.
pub struct Network {
    url: String,
    link: watch::Sender<Link>,
    carried: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    Up,
    /// Connections are closed, and others refused.
    Cut,
    /// Nothing arrives any more on what is or will be connected, and nobody is told.
    Silent,
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Network {
    /// A network that leads to the database of `url`.
    pub async fn to(url: &str) -> Self {
        let server: Config = url.parse().unwrap();
        let (listener, url) = listen(url).await;
        let (link, state) = watch::channel(Link::Up);
        let carried = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&carried);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Relaxed);
                tokio::spawn(carry(client, server.clone(), state.clone()));
            }
        });
        Self { url, link, carried }
    }

    /// The URL that leads through this network.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections were made over it.
    pub fn carried(&self) -> usize {
        self.carried.load(Relaxed)
    }

    /// Closes all connections, and refuses others.
    pub fn cut(&self) {
        self.link.send_replace(Link::Cut);
    }

    /// Lets nothing arrive any more, and tells nobody.
    pub fn silence(&self) {
        self.link.send_replace(Link::Silent);
    }

    /// Carries connections again that are made from now on.
    pub fn mend(&self) {
        self.link.send_replace(Link::Up);
    }
}

async fn carry(mut client: TcpStream, server: Config, mut link: watch::Receiver<Link>) {
    let copies = async {
        let mut server = connect(&server).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    let link = tokio::select! {
        biased;
        link = link.wait_for(|link| *link != Link::Up) => link.map_or(Link::Cut, |link| *link),
        _ = copies => return,
    };
    if link == Link::Silent {
        pending::<()>().await;
    }
}

/// A port that stands in for the server of `url`, and the URL that leads to it.
pub async fn listen(url: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut url: Url = url.parse().unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    (listener, url.into())
}

/// A connection to the server itself.
pub async fn connect(server: &Config) -> io::Result<Box<dyn Stream>> {
    let port = server.get_ports().first().copied().unwrap_or(5432);
    Ok(match &server.get_hosts()[0] {
        Host::Tcp(host) => Box::new(TcpStream::connect((host.as_str(), port)).await?),
        Host::Unix(directory) => {
            Box::new(UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?)
        }
    })
}
