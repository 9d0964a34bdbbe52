//! A way to the server that follows the protocol, and breaks where it is told to.
//!
//! A statement goes to the server as Bind, Execute and Sync, and commits at the Sync. The answer is
//! rows, CommandComplete and, once it is committed, ReadyForQuery.

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

/// Where a statement is broken, or a connection before its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Cut before the server has anything of the statement.
    CutBefore,
    /// Cut while the server executes what it won't commit.
    CutExecuting,
    /// Cut after the server has answered for what it won't commit.
    CutUncommitted,
    /// Cut so long after the server has all that it may be committing, or not begun, or done.
    CutCommitting(Duration),
    /// Cut when all of the answer has been passed on but its last message.
    CutAnswering,
    /// Cut after the server has committed and answered, before anything of it is passed on.
    CutAfter,
    /// Hold the statement for so long.
    StallBefore(Duration),
    /// Hold the end of the statement for so long, while the server keeps its locks.
    StallExecuting(Duration),
    /// Hold the answer for so long.
    StallAfter(Duration),
    /// Hold the answer until the client hangs up.
    Silence,
    /// Close the next connection that is made.
    Refuse,
    /// Hold the next connection that is made for so long, before it gets an answer.
    StallConnect(Duration),
}

/// A port that leads to the server through faults.
pub struct Wire {
    url: String,
    state: Arc<State>,
    _carrying: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    statements: Queue,
    connections: Queue,
    /// How many statements and connections were broken.
    fired: Mutex<Counts>,
    /// How often the server refused something, by SQLSTATE.
    errors: Mutex<BTreeMap<String, usize>>,
}

/// Faults that wait for something to break.
#[derive(Default)]
struct Queue(Mutex<VecDeque<Armed>>);

struct Armed {
    fault: Fault,
    /// How many pass unharmed before.
    after: usize,
    fired: oneshot::Sender<()>,
}

/// The messages of one side.
type Messages<S> = FramedRead<S, LengthDelimitedCodec>;

/// A connection on its way.
struct Link {
    state: Arc<State>,
    from_client: Messages<ReadHalf<TcpStream>>,
    to_client: WriteHalf<TcpStream>,
    from_server: Messages<ReadHalf<Box<dyn Stream>>>,
    to_server: WriteHalf<Box<dyn Stream>>,
    /// The prepared statements that write.
    writing: HashSet<Bytes>,
}

impl Wire {
    /// A way to the database of `url`.
    pub async fn to(url: &str) -> Self {
        let server: Config = url.parse().unwrap();
        let (listener, url) = listen(url).await;
        let url = option(&url, "sslmode=disable");
        let state = Arc::new(State::default());
        let carried = Arc::clone(&state);
        let carrying = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(client, server.clone(), Arc::clone(&carried)));
            }
        });
        Self { url, state, _carrying: AbortOnDropHandle::new(carrying) }
    }

    /// The URL that leads through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks a statement that writes, or a connection, `after` others, and tells when it does.
    /// Whoever doesn't wait any more takes the fault back.
    pub fn arm(&self, fault: Fault, after: usize) -> oneshot::Receiver<()> {
        let (fired, told) = oneshot::channel();
        self.state.queue(fault).0.lock().unwrap().push_back(Armed { fault, after, fired });
        told
    }

    /// How often each fault was met.
    pub fn fired(&self) -> Counts {
        self.state.fired.lock().unwrap().clone()
    }

    /// How often the server refused something, by SQLSTATE.
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

    /// The fault that it is the turn of in `queue`, if there is one.
    fn fire(&self, queue: &Queue) -> Option<Fault> {
        let fault = queue.next()?;
        *self.fired.lock().unwrap().entry(fault.name()).or_default() += 1;
        Some(fault)
    }
}

impl Queue {
    /// The fault that it is the turn of, if somebody waits for it.
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

async fn carry(mut client: TcpStream, server: Config, state: Arc<State>) -> io::Result<()> {
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
    let link = Link {
        state,
        from_client: messages(from_client),
        to_client,
        from_server: messages(from_server),
        to_server,
        writing: HashSet::new(),
    };
    link.run().await
}

impl Link {
    async fn run(mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                message = self.from_client.next() => {
                    let message = message.ok_or_else(cut)??.freeze();
                    match kind(&message) {
                        b'P' => self.prepared(&message),
                        b'B' if self.writing.contains(&bound(&message)) => {
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
                    self.state.answered(&message);
                    self.to_client.write_all(&message).await?;
                }
            }
        }
    }

    fn prepared(&mut self, parse: &Bytes) {
        let (name, rest) = text(parse, 5);
        let (sql, _) = text(parse, rest);
        if sql.windows(11).any(|words| words == b"INSERT INTO") {
            self.writing.insert(name);
        } else {
            self.writing.remove(&name);
        }
    }

    /// Carries the statement that begins with `bind`, as far as the fault lets it.
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
                // Flush: a server sends rows of its own accord, too, before it has committed them.
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
            // What was held arrives, whether or not somebody still waits for an answer.
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

    /// The answer before its message of the kind `last`, and that message; ReadyForQuery or an
    /// error end it too.
    async fn answer(&mut self, last: u8) -> io::Result<(Bytes, Bytes)> {
        let mut answer = BytesMut::new();
        loop {
            let message = self.from_server.next().await.ok_or_else(cut)??;
            self.state.answered(&message);
            if kind(&message) == last || (kind(&message) == b'E' && last != b'Z') {
                return Ok((answer.freeze(), message.freeze()));
            }
            answer.put(message);
        }
    }
}

impl State {
    /// Counts the errors among the server's messages.
    fn answered(&self, message: &[u8]) {
        if kind(message) != b'E' {
            return;
        }
        // Fields of a letter and a text each.
        let fields = message[5..].split(|byte| *byte == 0);
        let code = fields.into_iter().find_map(|field| field.strip_prefix(b"C"));
        let code = String::from_utf8_lossy(code.unwrap_or_default()).into_owned();
        *self.errors.lock().unwrap().entry(code).or_default() += 1;
    }
}

/// The messages that arrive: a type, a length that counts itself, and the rest.
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

/// The name of the statement that a Bind is of, after the portal's.
fn bound(bind: &Bytes) -> Bytes {
    let (_, rest) = text(bind, 5);
    text(bind, rest).0
}

/// The text at `from`, which ends with a zero, and where the next thing begins.
fn text(message: &Bytes, from: usize) -> (Bytes, usize) {
    let end =
        message[from..].iter().position(|byte| *byte == 0).map_or(message.len(), |at| from + at);
    (message.slice(from..end), end + 1)
}

/// What closes a connection.
fn cut() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
