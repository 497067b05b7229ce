//! Whom to trust.
//!
//! The roots of the web's certificates as Mozilla keeps them, compiled in: what is trusted does
//! not depend on what a container happens to bring along. An operator with an authority of his
//! own adds it. Certificates are always verified; there is no way to turn that off.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Whom a client trusts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

/// Why certificates cannot be trusted as roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootFault {
    /// No `CERTIFICATE` section in the text.
    None,
    /// Section number so many, from 1, is no certificate.
    Malformed(usize),
}

impl fmt::Display for RootFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RootFault::None => f.write_str("no section BEGIN CERTIFICATE"),
            RootFault::Malformed(at) => write!(f, "certificate {at} cannot be read"),
        }
    }
}

impl std::error::Error for RootFault {}

impl Tls {
    /// Trusts the roots of the web.
    #[must_use]
    pub fn public() -> Tls {
        Tls::trusting(web_roots())
    }

    /// Trusts the roots of the web, and the certificates in this PEM text.
    ///
    /// # Errors
    /// A section that is no certificate; or there is none.
    pub fn with_roots(pem: &[u8]) -> Result<Tls, RootFault> {
        let mut roots = web_roots();
        let mut read = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            read += 1;
            let certificate = certificate.map_err(|_| RootFault::Malformed(read))?;
            roots.add(certificate).map_err(|_| RootFault::Malformed(read))?;
        }
        if read == 0 { Err(RootFault::None) } else { Ok(Tls::trusting(roots)) }
    }

    fn trusting(roots: RootCertStore) -> Tls {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        // Nothing else is spoken, and some servers would rather refuse than guess.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Tls(Arc::new(config))
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

fn web_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

#[cfg(test)]
mod tests;
