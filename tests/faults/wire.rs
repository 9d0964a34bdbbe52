//! A proxy that follows PostgreSQL's protocol and injects faults.
//!
//! A client sends a statement as Bind, Execute and Sync, and the server commits at the Sync. The
//! answer is rows, CommandComplete and, after the commit, ReadyForQuery.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_postgres::Config;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use tokio_util::task::AbortOnDropHandle;

use crate::report::Counts;
use crate::support::fixtures::option;
use crate::support::network::{Stream, connect, listen};

/// Where a statement breaks, or a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Cut before the server gets any of the statement.
    CutBefore,
    /// Cut while the server executes the statement, which it won't commit.
    CutExecuting,
    /// Cut after the server has answered the statement, which it won't commit.
    CutUncommitted,
    /// Cut so long after the server got the whole statement: before, during or after the commit.
    CutCommitting(Duration),
    /// Cut when all of the answer is passed on except for its last message.
    CutAnswering,
    /// Cut after the server has committed, before any of the answer is passed on.
    CutAfter,
    /// Hold the statement for so long.
    StallBefore(Duration),
    /// Hold the end of the statement for so long, while the server keeps its locks.
    StallExecuting(Duration),
    /// Hold the answer for so long.
    StallAfter(Duration),
    /// Hold the answer until the client disconnects.
    Silence,
    /// Close the next connection.
    Refuse,
    /// Hold the next connection for so long before it gets an answer.
    StallConnect(Duration),
}

/// A proxy in front of the server.
pub struct Proxy {
    url: String,
    state: Arc<State>,
    _listener: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    statements: Queue,
    connections: Queue,
    /// How often each fault broke something.
    fired: Mutex<Counts>,
    /// The server's errors, counted by SQLSTATE.
    errors: Mutex<BTreeMap<String, usize>>,
}

/// Faults that wait for a statement or a connection to break.
#[derive(Default)]
struct Queue(Mutex<VecDeque<Armed>>);

struct Armed {
    fault: Fault,
    /// How many pass before.
    after: usize,
    fired: oneshot::Sender<()>,
}

/// The messages from one side.
type Messages<S> = FramedRead<S, LengthDelimitedCodec>;

/// A connection through the proxy.
struct ProxiedConnection {
    state: Arc<State>,
    from_client: Messages<ReadHalf<TcpStream>>,
    to_client: WriteHalf<TcpStream>,
    from_server: Messages<ReadHalf<Box<dyn Stream>>>,
    to_server: WriteHalf<Box<dyn Stream>>,
    /// Names of the prepared statements that write.
    writing: HashSet<Bytes>,
}

impl Proxy {
    /// A proxy to the database of `url`.
    pub async fn to(url: &str) -> Self {
        let server: Config = url.parse().unwrap();
        let (listener, url) = listen(url).await;
        let url = option(&url, "sslmode=disable");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let listener = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, server.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, state, _listener: AbortOnDropHandle::new(listener) }
    }

    /// The URL that leads through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks a statement that writes, or a connection, after `after` others. The receiver learns
    /// when the fault fires; dropping it disarms the fault.
    pub fn arm(&self, fault: Fault, after: usize) -> oneshot::Receiver<()> {
        let (fired, receiver) = oneshot::channel();
        self.state.queue(fault).0.lock().unwrap().push_back(Armed { fault, after, fired });
        receiver
    }

    /// How often each fault broke something.
    pub fn fired(&self) -> Counts {
        self.state.fired.lock().unwrap().clone()
    }

    /// The server's errors, counted by SQLSTATE.
    pub fn errors(&self) -> BTreeMap<String, usize> {
        self.state.errors.lock().unwrap().clone()
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::CutBefore => "cut before the statement",
            Self::CutExecuting => "cut while it is executed",
            Self::CutUncommitted => "cut when answered, not committed",
            Self::CutCommitting(_) => "cut around the commit",
            Self::CutAnswering => "cut in the answer, committed",
            Self::CutAfter => "cut before the answer, committed",
            Self::StallBefore(_) => "stall before the statement",
            Self::StallExecuting(_) => "stall before the commit",
            Self::StallAfter(_) => "stall after the commit",
            Self::Silence => "no answer at all",
            Self::Refuse => "connection refused",
            Self::StallConnect(_) => "stall while connecting",
        }
    }
}

impl State {
    fn queue(&self, fault: Fault) -> &Queue {
        match fault {
            Fault::Refuse | Fault::StallConnect(_) => &self.connections,
            _ => &self.statements,
        }
    }

    /// The fault that is due in `queue`, if any. Counts it.
    fn fire(&self, queue: &Queue) -> Option<Fault> {
        let fault = queue.next()?;
        *self.fired.lock().unwrap().entry(fault.name()).or_default() += 1;
        Some(fault)
    }
}

impl Queue {
    /// The fault that is due, if somebody still waits for it.
    fn next(&self) -> Option<Fault> {
        let mut armed = self.0.lock().unwrap();
        armed.retain(|armed| !armed.fired.is_closed());
        let next = armed.front_mut()?;
        if next.after > 0 {
            next.after -= 1;
            return None;
        }
        let Armed { fault, fired, .. } = armed.pop_front()?;
        fired.send(()).is_ok().then_some(fault)
    }
}

async fn serve(mut client: TcpStream, server: Config, state: Arc<State>) -> io::Result<()> {
    match state.fire(&state.connections) {
        Some(Fault::Refuse) => return Err(cut()),
        Some(Fault::StallConnect(time)) => sleep(time).await,
        _ => {}
    }
    let mut server = connect(&server).await?;
    // The first message has no type.
    let length = client.read_u32().await?;
    let mut startup = vec![0; (length as usize).saturating_sub(4)];
    client.read_exact(&mut startup).await?;
    server.write_u32(length).await?;
    server.write_all(&startup).await?;

    client.set_nodelay(true)?;
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let connection = ProxiedConnection {
        state,
        from_client: messages(from_client),
        to_client,
        from_server: messages(from_server),
        to_server,
        writing: HashSet::new(),
    };
    connection.run().await
}

impl ProxiedConnection {
    async fn run(mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                message = self.from_client.next() => {
                    let message = message.ok_or_else(cut)??.freeze();
                    match kind(&message) {
                        b'P' => self.note_prepared(&message),
                        b'B' if self.writing.contains(&statement_name(&message)) => {
                            if let Some(fault) = self.state.fire(&self.state.statements) {
                                self.inject(fault, message).await?;
                                continue;
                            }
                        }
                        _ => {}
                    }
                    self.to_server.write_all(&message).await?;
                }
                message = self.from_server.next() => {
                    let message = message.ok_or_else(cut)??.freeze();
                    self.state.count_error(&message);
                    self.to_client.write_all(&message).await?;
                }
            }
        }
    }

    /// Notes whether the prepared statement writes.
    fn note_prepared(&mut self, parse: &Bytes) {
        let (name, rest) = text(parse, 5);
        let (sql, _) = text(parse, rest);
        if sql.windows(11).any(|words| words == b"INSERT INTO") {
            self.writing.insert(name);
        } else {
            self.writing.remove(&name);
        }
    }

    /// Passes on the statement that starts with `bind`, as far as the fault lets it.
    async fn inject(&mut self, fault: Fault, bind: Bytes) -> io::Result<()> {
        let (statement, sync) = self.statement(bind).await?;
        match fault {
            Fault::CutBefore => Err(cut()),
            Fault::CutExecuting => {
                self.to_server.write_all(&statement).await?;
                Err(cut())
            }
            Fault::CutUncommitted => {
                self.to_server.write_all(&statement).await?;
                // Flush, so that the server answers before the commit.
                self.to_server.write_all(&[b'H', 0, 0, 0, 4]).await?;
                let (answer, last) = self.answer(b'C').await?;
                self.to_client.write_all(&[answer, last].concat()).await?;
                Err(cut())
            }
            Fault::CutCommitting(time) => {
                self.to_server.write_all(&[statement, sync].concat()).await?;
                sleep(time).await;
                Err(cut())
            }
            Fault::CutAnswering => {
                self.to_server.write_all(&[statement, sync].concat()).await?;
                let (answer, _) = self.answer(b'Z').await?;
                self.to_client.write_all(&answer).await?;
                Err(cut())
            }
            Fault::CutAfter => {
                self.to_server.write_all(&[statement, sync].concat()).await?;
                self.answer(b'Z').await?;
                Err(cut())
            }
            // A held statement arrives even if nobody waits for the answer any more.
            Fault::StallBefore(time) => {
                sleep(time).await;
                self.to_server.write_all(&[statement, sync].concat()).await
            }
            Fault::StallExecuting(time) => {
                self.to_server.write_all(&statement).await?;
                sleep(time).await;
                self.to_server.write_all(&sync).await
            }
            Fault::StallAfter(time) => {
                self.to_server.write_all(&[statement, sync].concat()).await?;
                let (answer, last) = self.answer(b'Z').await?;
                sleep(time).await;
                self.to_client.write_all(&[answer, last].concat()).await
            }
            Fault::Silence => {
                self.to_server.write_all(&[statement, sync].concat()).await?;
                while self.from_client.next().await.is_some() {}
                Err(cut())
            }
            Fault::Refuse | Fault::StallConnect(_) => unreachable!("not of a statement"),
        }
    }

    /// The rest of the statement before its Sync, and the Sync.
    async fn statement(&mut self, bind: Bytes) -> io::Result<(Bytes, Bytes)> {
        let mut statement = BytesMut::from(bind);
        loop {
            let message = self.from_client.next().await.ok_or_else(cut)??;
            if kind(&message) == b'S' {
                return Ok((statement.freeze(), message.freeze()));
            }
            statement.put(message);
        }
    }

    /// The answer before the message of kind `last`, and that message. An error also ends it,
    /// unless `last` is ReadyForQuery.
    async fn answer(&mut self, last: u8) -> io::Result<(Bytes, Bytes)> {
        let mut answer = BytesMut::new();
        loop {
            let message = self.from_server.next().await.ok_or_else(cut)??;
            self.state.count_error(&message);
            if kind(&message) == last || (kind(&message) == b'E' && last != b'Z') {
                return Ok((answer.freeze(), message.freeze()));
            }
            answer.put(message);
        }
    }
}

impl State {
    /// Counts the message if it is an error.
    fn count_error(&self, message: &[u8]) {
        if kind(message) != b'E' {
            return;
        }
        // Each field is a letter and a text.
        let fields = message[5..].split(|byte| *byte == 0);
        let code = fields.into_iter().find_map(|field| field.strip_prefix(b"C"));
        let code = String::from_utf8_lossy(code.unwrap_or_default()).into_owned();
        *self.errors.lock().unwrap().entry(code).or_default() += 1;
    }
}

/// Splits into messages: a type, a length that includes itself, and the rest.
fn messages<R: AsyncRead>(from: R) -> Messages<R> {
    LengthDelimitedCodec::builder()
        .length_field_offset(1)
        .length_field_length(4)
        .length_adjustment(1)
        .num_skip(0)
        .max_frame_length(1 << 30)
        .new_read(from)
}

fn kind(message: &[u8]) -> u8 {
    message[0]
}

/// The name of a Bind's statement, which follows the portal's.
fn statement_name(bind: &Bytes) -> Bytes {
    let (_, rest) = text(bind, 5);
    let (name, _) = text(bind, rest);
    name
}

/// The zero-terminated text at `from`, and the position after it.
fn text(message: &Bytes, from: usize) -> (Bytes, usize) {
    let end =
        message[from..].iter().position(|byte| *byte == 0).map_or(message.len(), |at| from + at);
    (message.slice(from..end), end + 1)
}

/// The error that closes a connection.
fn cut() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
