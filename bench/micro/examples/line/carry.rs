//! Carries connections over the line, both ways, and keeps count.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::link::Link;
use crate::scan::{Head, Scanner};

/// What is read at once: a millisecond and a third of 100 Mbit/s.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces of one connection under way in one direction: more than queue and delay hold.
const PIECES_UNDER_WAY: usize = 256;
/// What the kernel keeps for the proxy beyond the line; small, so that a sender feels the line.
const SOCKET_BUFFER_BYTES: u32 = 128 << 10;
const CONNECTIONS_WAITING: u32 = 256;

/// A line to one server, with its counters.
pub struct Line {
    to: SocketAddr,
    delay: Duration,
    up: Link,
    down: Link,
    counted: Mutex<Counted>,
}

/// What went over the line since somebody last asked.
struct Counted {
    since: Instant,
    connections: u64,
    up_bytes: u64,
    down_bytes: u64,
    requests: Vec<Arc<Mutex<Exchange>>>,
}

impl Counted {
    fn new() -> Self {
        Self { since: Instant::now(), connections: 0, up_bytes: 0, down_bytes: 0, requests: Vec::new() }
    }
}

/// A request and its answer.
struct Exchange {
    head: Head,
    connection: u64,
    begun: Instant,
    up_bytes: u64,
    down_bytes: u64,
    /// When the first byte of the answer came to the client, and the last so far.
    answered: Option<(Instant, Instant)>,
}

/// Listens with small buffers, which accepted connections inherit.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(CONNECTIONS_WAITING)
}

impl Line {
    /// An idle line.
    pub fn new(to: SocketAddr, delay: Duration, bytes_per_second: f64, queue: Duration) -> Self {
        let link = || Link::new(bytes_per_second, delay, queue);
        Self { to, delay, up: link(), down: link(), counted: Mutex::new(Counted::new()) }
    }

    /// Carries every connection that comes, for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            // The client sees that it was not served; a proxy for measurements has nobody else to tell.
            let Ok((client, _)) = listener.accept().await else { continue };
            let number = {
                let mut counted = self.counted();
                counted.connections += 1;
                counted.connections
            };
            let line = self.clone();
            let accepted = Instant::now();
            tokio::spawn(async move {
                if let Err(e) = line.carry(client, number, accepted).await {
                    eprintln!("line: connection {number}: {e}");
                }
            });
        }
    }

    /// The counters as JSON; they begin anew.
    pub fn take(&self) -> Value {
        let counted = std::mem::replace(&mut *self.counted(), Counted::new());
        let mut methods: BTreeMap<String, u64> = BTreeMap::new();
        let mut log = Vec::with_capacity(counted.requests.len());
        for exchange in &counted.requests {
            let exchange = lock(exchange);
            *methods.entry(exchange.head.method.clone()).or_default() += 1;
            let seconds = |at: Instant| at.duration_since(counted.since).as_secs_f64();
            log.push(json!({
                "method": exchange.head.method,
                "target": exchange.head.target,
                "connection": exchange.connection,
                "begun": seconds(exchange.begun),
                "answered": exchange.answered.map(|(first, _)| seconds(first)),
                "ended": exchange.answered.map(|(_, last)| seconds(last)),
                "up_bytes": exchange.up_bytes,
                "down_bytes": exchange.down_bytes,
            }));
        }
        json!({
            "connections": counted.connections,
            "requests": log.len(),
            "methods": methods,
            "up_bytes": counted.up_bytes,
            "down_bytes": counted.down_bytes,
            "log": log,
        })
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        lock(&self.counted)
    }

    async fn carry(self: Arc<Self>, client: TcpStream, number: u64, accepted: Instant) -> io::Result<()> {
        // A handshake over the line takes a round trip before the client may send.
        sleep_until(accepted + 2 * self.delay).await;
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        let server = socket.connect(self.to).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let exchange = Mutex::new(None);
        let watch = Watch { line: self.clone(), number, exchange };
        let up = Direction { link: &self.up, from: from_client, to: to_server };
        let down = Direction { link: &self.down, from: from_server, to: to_client };
        let mut scanner = Scanner::new();
        let (sent, answered) = tokio::join!(
            up.pump(|piece| watch.sent(&mut scanner, piece)),
            down.pump(|piece| watch.answered(piece))
        );
        // Who resets a connection has its reasons: the other side is told by the closing.
        let is_reset = |e: &io::Error| {
            matches!(
                e.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected
            )
        };
        sent.and(answered).or_else(|e| if is_reset(&e) { Ok(()) } else { Err(e) })
    }
}

/// Counts for one connection.
struct Watch {
    line: Arc<Line>,
    number: u64,
    exchange: Mutex<Option<Arc<Mutex<Exchange>>>>,
}

impl Watch {
    fn sent(&self, scanner: &mut Scanner, piece: &[u8]) {
        let mut counted = self.line.counted();
        counted.up_bytes += piece.len() as u64;
        let mut current = lock(&self.exchange);
        for head in scanner.feed(piece) {
            let begun = Instant::now();
            let exchange =
                Exchange { head, connection: self.number, begun, up_bytes: 0, down_bytes: 0, answered: None };
            let exchange = Arc::new(Mutex::new(exchange));
            counted.requests.push(exchange.clone());
            *current = Some(exchange);
        }
        if let Some(exchange) = &*current {
            // With two requests in one piece the second gets both; no tool measured here does that.
            lock(exchange).up_bytes += piece.len() as u64;
        }
    }

    fn answered(&self, piece: &[u8]) {
        self.line.counted().down_bytes += piece.len() as u64;
        if let Some(exchange) = &*lock(&self.exchange) {
            let mut exchange = lock(exchange);
            let at = self.line.down.arrival();
            exchange.down_bytes += piece.len() as u64;
            exchange.answered = Some((exchange.answered.map_or(at, |(first, _)| first), at));
        }
    }
}

/// One direction of one connection.
struct Direction<'a> {
    link: &'a Link,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
}

impl Direction<'_> {
    /// Carries everything until the sender ends, and then the end.
    async fn pump(self, mut see: impl FnMut(&[u8])) -> io::Result<()> {
        let Self { link, mut from, mut to } = self;
        let (queue, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_UNDER_WAY);
        let read = async move {
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let count = from.read(&mut piece).await?;
                piece.truncate(count);
                let due = link.send(count);
                see(&piece);
                let is_end = count == 0;
                // Nobody takes it any more: the other side has closed.
                if queue.send((due, piece)).await.is_err() || is_end {
                    return Ok::<(), io::Error>(());
                }
                link.room().await;
            }
        };
        let write = async move {
            while let Some((due, piece)) = arriving.recv().await {
                sleep_until(due).await;
                if piece.is_empty() {
                    break;
                }
                to.write_all(&piece).await?;
            }
            to.shutdown().await
        };
        let (read, written) = tokio::join!(read, write);
        read.and(written)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
