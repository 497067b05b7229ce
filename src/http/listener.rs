//! Accepts connections within the caps, and drains them in order.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::connection;
use super::head::Refusal;
use super::service::Service;
use super::{Bounds, Context};
use crate::limits::{ACCEPT_BACKOFF_MS, ACCEPT_EVENT_MS, BACKLOG, REFUSALS_MAX};
use crate::metrics::Metrics;

/// A bound socket. The kernel takes connections; nobody is served before [`serve`].
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// The real address, also when port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Binds to an address, so that a busy port is known before anything else is touched.
///
/// # Errors
/// The system's, such as `AddrInUse`.
pub fn bind(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server need not wait for the connections of the last one to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}

/// Serves until the context's shutdown has drained or stopped it.
///
/// To be run on a current-thread runtime with I/O and time.
///
/// # Errors
/// When the socket cannot be registered with the runtime.
pub async fn serve(listener: Listener, context: Context) -> io::Result<()> {
    let socket = TcpListener::from_std(listener.socket)?;
    let service = Arc::new(Service::new(context));
    let mut messengers = JoinSet::new();
    messengers.spawn(service.context.engine.hand_out_replies());
    messengers.spawn(service.context.engine.carry_commands());
    let mut connections = JoinSet::new();
    accept_until_draining(socket, &service, &mut connections).await;
    drain(&service, connections).await;
    Ok(())
}

async fn accept_until_draining(
    socket: TcpListener,
    service: &Arc<Service>,
    connections: &mut JoinSet<()>,
) {
    let door = Arc::new(Door::new(service));
    let mut trouble = Trouble::default();
    loop {
        tokio::select! {
            biased;
            () = service.context.shutdown.draining() => return,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => welcome(stream, peer.ip(), &door, service, connections),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    service.context.metrics.accept_failures.inc();
                    trouble.pause(&error).await;
                }
            },
        }
    }
}

/// Starts the task of a new connection, which is refused there if there are too many.
fn welcome(
    stream: TcpStream,
    address: IpAddr,
    door: &Arc<Door>,
    service: &Arc<Service>,
    connections: &mut JoinSet<()>,
) {
    let metrics = &service.context.metrics;
    metrics.connections_accepted.inc();
    let Some((visit, refusal)) = Door::enter(door, address) else {
        metrics.connections_refused.inc();
        return;
    };
    if refusal.is_some() {
        metrics.connections_refused.inc();
    }
    // Responses are written whole; waiting for more to send would only delay them. A socket
    // that refuses the option is one whose client is gone, which its task will find out.
    drop(stream.set_nodelay(true));
    let service = Arc::clone(service);
    connections.spawn(async move {
        let _visit = visit;
        connection::serve(stream, service, refusal).await;
    });
}

/// Lets requests under way finish, for as long as the bounds allow.
async fn drain(service: &Service, mut connections: JoinSet<()>) {
    let patience = Duration::from_millis(service.context.bounds.drain_ms);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {
            tracing::info!("drained");
        }
        () = service.context.shutdown.stopping() => {
            tracing::warn!(connections = connections.len(), "stopped before drained");
        }
        () = sleep(patience) => {
            tracing::warn!(connections = connections.len(), "not drained in time");
        }
    }
    connections.shutdown().await;
}

/// Counts who is inside.
struct Door {
    bounds: Bounds,
    metrics: Arc<Metrics>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    served: usize,
    by_address: HashMap<IpAddr, usize>,
    refused: usize,
}

/// One connection's place; free again when dropped.
struct Visit {
    door: Arc<Door>,
    address: Option<IpAddr>,
}

impl Door {
    fn new(service: &Service) -> Door {
        Door {
            bounds: service.context.bounds,
            metrics: Arc::clone(&service.context.metrics),
            inside: Mutex::default(),
        }
    }

    /// A place for a connection, to be served or to be told why not; `None` when there is not
    /// even room for that.
    fn enter(door: &Arc<Door>, address: IpAddr) -> Option<(Visit, Option<Refusal>)> {
        let mut inside = door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = inside.by_address.get(&address).copied().unwrap_or(0);
        let refusal = if inside.served >= door.bounds.connections_max {
            Some(Refusal::Connections)
        } else if of_address >= door.bounds.connections_per_address_max {
            Some(Refusal::ConnectionsOfAddress)
        } else {
            None
        };
        if refusal.is_none() {
            inside.served += 1;
            inside.by_address.insert(address, of_address + 1);
            door.metrics.connections_open.inc();
        } else if inside.refused < REFUSALS_MAX {
            inside.refused += 1;
        } else {
            return None;
        }
        let address = refusal.is_none().then_some(address);
        Some((Visit { door: Arc::clone(door), address }, refusal))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut inside = self.door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = self.address else {
            inside.refused -= 1;
            return;
        };
        inside.served -= 1;
        self.door.metrics.connections_open.dec();
        if let Some(count) = inside.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                inside.by_address.remove(&address);
            }
        }
    }
}

/// Failing accepts: slows them down and says so, but not every time.
#[derive(Default)]
struct Trouble {
    said_at: Option<Instant>,
    unsaid: u64,
}

impl Trouble {
    /// Says it and waits, so that the loop does not spin.
    async fn pause(&mut self, error: &io::Error) {
        self.say(error, Instant::now());
        sleep(Duration::from_millis(ACCEPT_BACKOFF_MS)).await;
    }

    /// Logs the error unless one was logged just before; whether it did.
    fn say(&mut self, error: &io::Error, now: Instant) -> bool {
        let is_recent = self.said_at.is_some_and(|at| {
            now.saturating_duration_since(at) < Duration::from_millis(ACCEPT_EVENT_MS)
        });
        if is_recent {
            self.unsaid += 1;
            return false;
        }
        tracing::error!(%error, unsaid = self.unsaid, "cannot accept connections");
        (self.said_at, self.unsaid) = (Some(now), 0);
        true
    }
}

/// Errors of a connection that broke off while it waited; see accept(2). All others, above all
/// EMFILE and ENFILE, stay until somebody closes something.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NOPROTOOPT
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_is_everybodys_trouble() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!concerns_one_connection(&errno.into()), "{errno}");
        }
        assert!(concerns_one_connection(&Errno::CONNABORTED.into()));
    }

    #[test]
    fn trouble_is_said_once_a_second() {
        let error = io::Error::from(Errno::MFILE);
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let said =
            |trouble: &mut Trouble, ms| trouble.say(&error, start + Duration::from_millis(ms));
        assert!(said(&mut trouble, 0));
        assert!(!said(&mut trouble, ACCEPT_EVENT_MS - 1));
        assert_eq!(trouble.unsaid, 1);
        assert!(said(&mut trouble, ACCEPT_EVENT_MS));
        assert_eq!(trouble.unsaid, 0);
    }
}
