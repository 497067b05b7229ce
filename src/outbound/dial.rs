//! From a host to a connection.
//!
//! The vetting is done here, between looking up and dialling: the address that was vetted is the
//! address that is dialled, so a name that changes its mind between two questions gains nothing.
//! Of a name with several addresses those that may be called are tried in their order, the next
//! when one fails or has not answered for `DIAL_STAGGER_MS` (RFC 8305), and the first to answer
//! is it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service;

use crate::limits::{CONNECT_MS_MAX, DIAL_ADDRESSES_MAX, DIAL_STAGGER_MS};
use crate::outbound::fault::{CallFault, Phase};
use crate::outbound::lookup::{LookedUp, Lookup};
use crate::outbound::target::TargetHost;
use crate::outbound::tls::Tls;
use crate::outbound::vet::{Vet, Vetoed};

/// Connects to hosts that may be called. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    vet: Vet,
    lookup: Arc<dyn Lookup>,
}

impl Dialler {
    pub(super) fn new(vet: Vet, lookup: Arc<dyn Lookup>) -> Dialler {
        Dialler { vet, lookup }
    }

    /// The addresses of this host that may be dialled: at least one, at most
    /// `DIAL_ADDRESSES_MAX`.
    pub(super) async fn addresses(
        &self,
        host: &TargetHost,
        port: u16,
    ) -> Result<Vec<SocketAddr>, CallFault> {
        let found = match host {
            TargetHost::Address(ip) => vec![SocketAddr::new(*ip, port)],
            TargetHost::Name(name) => {
                let found: LookedUp = self.lookup.lookup(name, port).await;
                found.map_err(|_| CallFault::Unresolvable)?
            }
        };
        let mut vetoed = None;
        let mut allowed = Vec::new();
        for address in found {
            let address = canonical(address);
            match self.vet.check(address) {
                Ok(()) => allowed.push(address),
                Err(Vetoed(ip)) => vetoed = vetoed.or(Some(ip)),
            }
        }
        allowed.truncate(DIAL_ADDRESSES_MAX);
        match vetoed {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(ip) => Err(CallFault::Vetoed(ip)),
            None => Err(CallFault::Unresolvable),
        }
    }

    async fn dial(self, uri: Uri) -> Result<TokioIo<TcpStream>, CallFault> {
        let host = host_of(&uri).ok_or(CallFault::Unresolvable)?;
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses = self.addresses(&host, port).await?;
        let stream = first_to_answer(addresses).await?;
        // A call is one small write, after which an answer is waited for.
        let _ = stream.set_nodelay(true);
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<TcpStream>;
    type Error = CallFault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, CallFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

/// Dials, and agrees on keys where the URL says so.
///
/// Whoever waits for a connection has a deadline of his own. The one here, `CONNECT_MS_MAX`, is
/// for a connection that is still being made when nobody waits any more, because another one
/// became free: the client lets it come about, to be used later.
#[derive(Clone, Debug)]
pub(super) struct Connector(HttpsConnector<Dialler>);

impl Connector {
    pub(super) fn new(dialler: Dialler, tls: &Tls) -> Connector {
        Connector(HttpsConnector::from((dialler, tls.config())))
    }
}

type Fault = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Fault>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(Duration::from_millis(CONNECT_MS_MAX), self.0.call(uri));
        Box::pin(async move {
            let late = CallFault::TimedOut { phase: Phase::Connect };
            connecting.await.unwrap_or_else(|_| Err(late.into()))
        })
    }
}

/// The host of a URI that was made from a [`super::target::Target`].
fn host_of(uri: &Uri) -> Option<TargetHost> {
    let host = uri.host()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(match bare.parse::<IpAddr>() {
        Ok(ip) => TargetHost::Address(ip.to_canonical()),
        Err(_) => TargetHost::Name(host.to_owned()),
    })
}

/// An IPv4 address in IPv6 clothes becomes what it is; an IPv6 address keeps its scope.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The first connection that comes about; else why the last one to fail did not.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> Result<TcpStream, CallFault> {
    let mut rest = addresses.into_iter();
    // Dropping the set ends the dialling of what is left in it.
    let mut dialling = JoinSet::new();
    let mut fault = CallFault::Unreachable;
    loop {
        let next = rest.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            dialling.spawn(TcpStream::connect(address));
        }
        let stagger = tokio::time::sleep(Duration::from_millis(DIAL_STAGGER_MS));
        tokio::select! {
            biased;
            ended = dialling.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => fault = fault_of(&error),
                Some(Err(_)) => {}
                None => return Err(fault),
            },
            () = stagger, if !is_last => {}
        }
    }
}

fn fault_of(error: &io::Error) -> CallFault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => CallFault::Refused,
        io::ErrorKind::TimedOut => CallFault::TimedOut { phase: Phase::Connect },
        _ => CallFault::Unreachable,
    }
}

#[cfg(test)]
mod tests;
