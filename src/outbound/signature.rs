//! Proof that a delivery is ours: Standard Webhooks.
//!
//! ```text
//! webhook-id:        msg_42_5a1e…                       the same over all tries
//! webhook-timestamp: 1674087231                         seconds; of this try
//! webhook-signature: v1,<base64> v1,<base64>            of id.timestamp.body, one per secret
//! ```
//!
//! `v1` is HMAC-SHA256 by a shared secret (`whsec_…`), `v1a` is Ed25519 by a private key
//! (`whsk_…`), which the receiver checks by the public one (`whpk_…`). While a secret is rotated
//! both are signed with, so that the receiver can change when it suits him.
//!
//! [`verify`] is what a receiver does. It is here because a format that nobody reads is wrong
//! sooner or later, and the program's own receiver can show whether a delivery was in order.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use subtle::ConstantTimeEq as _;

use crate::limits::{HOOK_SECRET_BYTES, HOOK_SIGNATURES_MAX};

/// Name of a delivery.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When it was signed, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The proofs.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

const HMAC_PREFIX: &str = "whsec_";
const ED25519_PREFIX: &str = "whsk_";
const ED25519_PUBLIC_PREFIX: &str = "whpk_";
const ED25519_SEED_BYTES: usize = 32;

/// As the specification's own libraries: written with padding, read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What deliveries to a hook are signed with. It never shows in debug output.
#[derive(Clone)]
pub struct Secret {
    scheme: Scheme,
    /// The shared secret; or the seed of the private key.
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Hmac,
    Ed25519,
}

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFault {
    /// It begins with neither `whsec_` nor `whsk_`.
    Prefix,
    /// What follows is not base64.
    NotBase64,
    /// The secret has so many bytes, which are too few or too many.
    Length(usize),
    /// The private key and the public key behind it do not belong together, or it is none.
    KeyPair,
}

impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (HOOK_SECRET_BYTES.start(), HOOK_SECRET_BYTES.end());
        match self {
            SecretFault::Prefix => f.write_str("a secret begins with whsec_ or whsk_"),
            SecretFault::NotBase64 => f.write_str("what follows the secret's prefix is not base64"),
            SecretFault::Length(bytes) => {
                write!(f, "the secret has {bytes} bytes, not {least} to {most}")
            }
            SecretFault::KeyPair => f.write_str("the secret is not an Ed25519 private key"),
        }
    }
}

impl std::error::Error for SecretFault {}

impl Secret {
    /// A shared secret of these bytes.
    ///
    /// # Errors
    /// `Length`: not as many as `HOOK_SECRET_BYTES`.
    pub fn shared(bytes: &[u8]) -> Result<Secret, SecretFault> {
        if HOOK_SECRET_BYTES.contains(&bytes.len()) {
            Ok(Secret { scheme: Scheme::Hmac, bytes: bytes.into() })
        } else {
            Err(SecretFault::Length(bytes.len()))
        }
    }

    /// Reads `whsec_` and the secret in base64; or `whsk_` and the seed of an Ed25519 key in
    /// base64, with its public key behind it or without.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Secret, SecretFault> {
        let decode = |text: &str| BASE64.decode(text).map_err(|_| SecretFault::NotBase64);
        if let Some(rest) = text.strip_prefix(HMAC_PREFIX) {
            return Secret::shared(&decode(rest)?);
        }
        let rest = text.strip_prefix(ED25519_PREFIX).ok_or(SecretFault::Prefix)?;
        let bytes = decode(rest)?;
        let (seed, public) = bytes.split_at_checked(ED25519_SEED_BYTES).unwrap_or((&bytes, &[]));
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SecretFault::KeyPair)?;
        let is_pair = public.is_empty() || public == pair.public_key().as_ref();
        let secret = Secret { scheme: Scheme::Ed25519, bytes: seed.into() };
        if is_pair { Ok(secret) } else { Err(SecretFault::KeyPair) }
    }

    /// The secret as it is read: to be shown once, to whom it is for.
    #[must_use]
    pub fn reveal(&self) -> String {
        let prefix = match self.scheme {
            Scheme::Hmac => HMAC_PREFIX,
            Scheme::Ed25519 => ED25519_PREFIX,
        };
        format!("{prefix}{}", BASE64.encode(&self.bytes))
    }

    /// `whpk_` and the public key, which a receiver needs; `None` for a shared secret.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        let public = self.key_pair()?.public_key().as_ref().to_vec();
        Some(format!("{ED25519_PUBLIC_PREFIX}{}", BASE64.encode(public)))
    }

    fn key_pair(&self) -> Option<Ed25519KeyPair> {
        let is_key = self.scheme == Scheme::Ed25519;
        is_key.then(|| Ed25519KeyPair::from_seed_unchecked(&self.bytes).ok()).flatten()
    }

    /// One proof: version, comma, base64.
    fn sign(&self, content: &[u8]) -> String {
        match self.key_pair() {
            Some(pair) => format!("v1a,{}", BASE64.encode(pair.sign(content))),
            None => format!("v1,{}", BASE64.encode(hmac::sign(&self.hmac_key(), content))),
        }
    }

    fn has_signed(&self, content: &[u8], version: &str, signature: &[u8]) -> bool {
        match (self.key_pair(), version) {
            (Some(pair), "v1a") => {
                let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
                public.verify(content, signature).is_ok()
            }
            (None, "v1") => hmac::verify(&self.hmac_key(), content, signature).is_ok(),
            _ => false,
        }
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.bytes)
    }
}

impl PartialEq for Secret {
    /// Takes the same time wherever two secrets differ.
    fn eq(&self, other: &Secret) -> bool {
        self.scheme == other.scheme && bool::from(self.bytes.ct_eq(&other.bytes))
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The value of `webhook-signature`: a proof by each secret, in their order. `id` has no dot in
/// it, and `timestamp_s` is the time of this try in seconds since 1970.
#[must_use]
pub fn sign(secrets: &[Secret], id: &str, timestamp_s: u64, body: &[u8]) -> String {
    debug_assert!(!id.contains('.'), "a dot in the id would let it run into the timestamp");
    let content = content(id, &timestamp_s.to_string(), body);
    let proofs: Vec<String> = secrets.iter().map(|secret| secret.sign(&content)).collect();
    proofs.join(" ")
}

/// The three headers of a delivery.
///
/// # Panics
/// If `id` holds what cannot stand in a header: it is made by the program.
#[must_use]
pub fn headers(secrets: &[Secret], id: &str, timestamp_s: u64, body: &[u8]) -> HeaderMap {
    let value = |text: &str| HeaderValue::from_str(text).expect("an id is visible ASCII");
    HeaderMap::from_iter([
        (WEBHOOK_ID, value(id)),
        (WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp_s)),
        (WEBHOOK_SIGNATURE, value(&sign(secrets, id, timestamp_s, body))),
    ])
}

/// Why a delivery is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// One of the three headers is missing, there twice, or not text.
    Headers,
    /// The timestamp is not a number of seconds.
    Timestamp,
    /// It was signed too long ago: somebody may be repeating what he has overheard.
    TooOld,
    /// It was signed in the future.
    TooNew,
    /// None of the signatures is by one of the secrets.
    Signature,
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forged::Headers => "one of the headers webhook-… is missing or there twice",
            Forged::Timestamp => "webhook-timestamp is not a number of seconds",
            Forged::TooOld => "the delivery was signed too long ago",
            Forged::TooNew => "the delivery was signed in the future",
            Forged::Signature => "no signature is by one of the secrets",
        })
    }
}

impl std::error::Error for Forged {}

/// Whether a delivery was signed by the owner of one of the secrets, at most `tolerance_s`
/// seconds before or after `now_s`.
///
/// # Errors
/// Why it is not to be trusted.
pub fn verify(
    secrets: &[Secret],
    headers: &HeaderMap,
    body: &[u8],
    now_s: u64,
    tolerance_s: u64,
) -> Result<(), Forged> {
    let id = only(headers, &WEBHOOK_ID)?;
    let timestamp = only(headers, &WEBHOOK_TIMESTAMP)?;
    let signatures = only(headers, &WEBHOOK_SIGNATURE)?;
    let signed_s: u64 = timestamp.parse().map_err(|_| Forged::Timestamp)?;
    if signed_s.saturating_add(tolerance_s) < now_s {
        return Err(Forged::TooOld);
    }
    if now_s.saturating_add(tolerance_s) < signed_s {
        return Err(Forged::TooNew);
    }
    let content = content(id, timestamp, body);
    let proofs =
        signatures.split(' ').take(HOOK_SIGNATURES_MAX).filter_map(|it| it.split_once(','));
    let is_proven = proofs.into_iter().any(|(version, text)| {
        let signature = BASE64.decode(text).unwrap_or_default();
        secrets.iter().any(|secret| secret.has_signed(&content, version, &signature))
    });
    if is_proven { Ok(()) } else { Err(Forged::Signature) }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Forged> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Forged::Headers) };
    value.to_str().map_err(|_| Forged::Headers)
}

/// What is signed.
fn content(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), timestamp.as_bytes(), body].join(&b'.')
}

#[cfg(test)]
mod tests;
