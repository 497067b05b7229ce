//! Which addresses may be called.
//!
//! Whoever may submit may name an address to be called back, and this server may reach what he
//! cannot: the machine itself, the network behind it, the metadata of the cloud. So only public
//! addresses are called, unless the operator opens a network by `--webhook-allow`. What is public
//! is what IANA's registries of special-purpose addresses leave, and in IPv6 only what lies in
//! 2000::/3: what is not yet handed out is nobody to call. Forms that carry an IPv4 address
//! through a gateway (NAT64, 6to4, Teredo, ISATAP) are refused altogether, because where they
//! come out is not ours to know.
//!
//! The server's own listeners are not called, whatever is open: a hook that calls the server
//! could make it call itself for ever, with all that the server trusts its own machine with. One
//! path of theirs is an exception where the operator opened their network: `ECHO_PATH`, which
//! gives back what it gets and does nothing, so that hooks can be tried with one binary alone.
//!
//! What this does not do: know networks that are private by custom only. An operator whose own
//! services have public addresses has to keep them apart by a firewall.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The path of the server's own receiver for trying out hooks.
pub const ECHO_PATH: &str = "/crypto/test-webhook";

/// Which addresses a client may call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vet(Scope);

#[derive(Clone, Debug)]
enum Scope {
    /// The operator himself named what is called.
    Everything,
    Public {
        /// Networks that the operator opened.
        allow: Arc<[IpNet]>,
        /// The server's own listeners.
        own: Arc<[SocketAddr]>,
        owns: Owns,
    },
}

/// What of its own listeners the server may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owns {
    Nothing,
    /// What lies in `allow`.
    Opened,
}

/// The address may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vetoed(pub IpAddr);

impl fmt::Display for Vetoed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} may not be called: it is not public, or this server itself", self.0)
    }
}

impl std::error::Error for Vetoed {}

impl Vet {
    /// For destinations that the operator named, such as the authority: everything goes.
    #[must_use]
    pub fn none() -> Vet {
        Vet(Scope::Everything)
    }

    /// For destinations that others name: public addresses and those in `allow`, but never `own`,
    /// the addresses at which this server listens.
    #[must_use]
    pub fn public(allow: Vec<IpNet>, own: Vec<SocketAddr>) -> Vet {
        Vet(Scope::Public { allow: allow.into(), own: own.into(), owns: Owns::Nothing })
    }

    /// The same for calls to `ECHO_PATH` and to nothing else: own listeners may be called, if
    /// they lie in `allow`.
    #[must_use]
    pub(super) fn for_echo(&self) -> Vet {
        let mut vet = self.clone();
        if let Scope::Public { owns, .. } = &mut vet.0 {
            *owns = Owns::Opened;
        }
        vet
    }

    /// Whether this address and port may be called. An IPv4 address in IPv6 clothes is judged as
    /// what it is.
    ///
    /// # Errors
    /// The address, if not.
    pub fn check(&self, address: SocketAddr) -> Result<(), Vetoed> {
        let Scope::Public { allow, own, owns } = &self.0 else { return Ok(()) };
        let ip = address.ip().to_canonical();
        let is_open = allow.iter().any(|net| net.contains(&ip));
        let is_own = own.iter().any(|listener| is_reached_at(*listener, ip, address.port()));
        let is_fine = match owns {
            _ if !is_own => is_open || is_public(ip),
            Owns::Opened => is_open,
            Owns::Nothing => false,
        };
        if is_fine { Ok(()) } else { Err(Vetoed(ip)) }
    }
}

/// Whether who calls this address and port comes out at `listener`.
fn is_reached_at(listener: SocketAddr, ip: IpAddr, port: u16) -> bool {
    // Who calls the unspecified address is connected to his own machine.
    let is_same = ip == listener.ip().to_canonical() || ip.is_unspecified();
    listener.port() == port && (is_same || (listener.ip().is_unspecified() && is_local(ip)))
}

/// Whether the address is one of this machine's: only to those can a socket be bound. No packet
/// is sent.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => {
            GLOBAL_UNICAST.contains(&ip)
                && !SPECIAL_V6.iter().any(|net| net.contains(&ip))
                && !is_isatap(ip)
        }
    }
}

/// Whether the lower half is an ISATAP interface identifier, which carries an IPv4 address.
fn is_isatap(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _])
}

/// All that IANA has begun to hand out. Outside are loopback, mapped and compatible addresses,
/// NAT64 (64:ff9b::/96, 64:ff9b:1::/48), discard-only, segment routing, unique local, link-local,
/// site-local and multicast.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0], 3);

const SPECIAL_V6: [Ipv6Net; 4] = [
    // IETF protocol assignments: Teredo, benchmarking, ORCHID and more.
    v6([0x2001, 0, 0], 23),
    // Documentation.
    v6([0x2001, 0xdb8, 0], 32),
    // 6to4.
    v6([0x2002, 0, 0], 16),
    // Documentation.
    v6([0x3fff, 0, 0], 20),
];

const SPECIAL_V4: [Ipv4Net; 17] = [
    // This network.
    v4([0, 0, 0, 0], 8),
    // Private.
    v4([10, 0, 0, 0], 8),
    // Shared by carriers (CGNAT); holds the metadata of Alibaba Cloud.
    v4([100, 64, 0, 0], 10),
    // Loopback.
    v4([127, 0, 0, 0], 8),
    // The host agent and metadata of Azure: public by its number, local by its use.
    v4([168, 63, 129, 16], 32),
    // Link-local; holds the metadata of most clouds.
    v4([169, 254, 0, 0], 16),
    // Private.
    v4([172, 16, 0, 0], 12),
    // IETF protocol assignments; holds the metadata of Oracle Cloud.
    v4([192, 0, 0, 0], 24),
    // Documentation.
    v4([192, 0, 2, 0], 24),
    // Relays of 6to4.
    v4([192, 88, 99, 0], 24),
    // Private.
    v4([192, 168, 0, 0], 16),
    // Benchmarks.
    v4([198, 18, 0, 0], 15),
    // Documentation.
    v4([198, 51, 100, 0], 24),
    // Documentation.
    v4([203, 0, 113, 0], 24),
    // Documentation of multicast.
    v4([233, 252, 0, 0], 24),
    // Multicast.
    v4([224, 0, 0, 0], 4),
    // Reserved, and broadcast.
    v4([240, 0, 0, 0], 4),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c]: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests;
