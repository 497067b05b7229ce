//! The authority's public key: whether a signature is really its own.
//!
//! RSA with SHA-256, PKCS#1 v1.5 or PSS with a salt as long as the hash or as the key allows (the
//! two lengths in use): the authority does not say which, and a signature that holds by any of
//! them was made by whoever has the private key. The key is read from PEM, as
//! `PUBLIC KEY` (what `openssl rsa -pubout` writes) or as `RSA PUBLIC KEY`.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPssSaltLength,
};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::limits::{
    AUTHORITY_KEY_BITS_MAX, AUTHORITY_KEY_BITS_MIN, AUTHORITY_KEY_BYTES_MAX, SEAL_ANSWER_BYTES_MAX,
};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

static RSA_PSS_LONGEST_SALT: RsaParameters =
    RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);

const SCHEMES: [&RsaParameters; 3] =
    [&RSA_PKCS1_2048_8192_SHA256, &RSA_PSS_2048_8192_SHA256, &RSA_PSS_LONGEST_SALT];

/// The public key of the authority. At least `AUTHORITY_KEY_BITS_MIN` bits.
#[derive(Clone, Debug)]
pub struct AuthorityKey {
    /// The same key, for each of `SCHEMES`.
    keys: Vec<ParsedPublicKey>,
}

/// Why a text is no key that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// More than `AUTHORITY_KEY_BYTES_MAX` bytes.
    TooLong,
    /// No PEM text: no line `-----BEGIN …-----`, or no line that ends what it begins.
    NotPem,
    /// A private key. It is the authority's alone, and should not be on this machine.
    Private,
    /// A section of another kind, such as `CERTIFICATE`.
    OtherKind,
    /// Between the lines is no base64.
    NotBase64,
    /// Not an RSA key.
    NotRsa,
    /// So many bits.
    TooShort(usize),
    /// More bits than signatures are verified with.
    TooLarge(usize),
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFault::TooLong => write!(f, "more than {AUTHORITY_KEY_BYTES_MAX} bytes"),
            KeyFault::NotPem => f.write_str("no PEM text with BEGIN PUBLIC KEY"),
            KeyFault::Private => f.write_str("a private key; the public key is needed"),
            KeyFault::OtherKind => f.write_str("neither PUBLIC KEY nor RSA PUBLIC KEY"),
            KeyFault::NotBase64 => f.write_str("the key is not base64"),
            KeyFault::NotRsa => f.write_str("not an RSA key"),
            KeyFault::TooShort(bits) => {
                write!(f, "the key has {bits} bits, at least {AUTHORITY_KEY_BITS_MIN}")
            }
            KeyFault::TooLarge(bits) => {
                write!(f, "the key has {bits} bits, at most {AUTHORITY_KEY_BITS_MAX}")
            }
        }
    }
}

impl std::error::Error for KeyFault {}

impl AuthorityKey {
    /// Reads the first section of a PEM text.
    ///
    /// # Errors
    /// What is wrong with the text or the key.
    pub fn from_pem(pem: &[u8]) -> Result<AuthorityKey, KeyFault> {
        if pem.len() > AUTHORITY_KEY_BYTES_MAX {
            return Err(KeyFault::TooLong);
        }
        AuthorityKey::from_der(&section(pem)?)
    }

    fn from_der(der: &[u8]) -> Result<AuthorityKey, KeyFault> {
        let rsa = PublicKey::from_der(der).map_err(|_| KeyFault::NotRsa)?;
        let der = rsa.as_der().map_err(|_| KeyFault::NotRsa)?;
        let bits = bits(rsa.modulus().big_endian_without_leading_zero());
        if bits < AUTHORITY_KEY_BITS_MIN {
            return Err(KeyFault::TooShort(bits));
        }
        if bits > AUTHORITY_KEY_BITS_MAX {
            return Err(KeyFault::TooLarge(bits));
        }
        let parse = |scheme: &'static RsaParameters| ParsedPublicKey::new(scheme, der.as_ref());
        let keys: Result<_, _> = SCHEMES.into_iter().map(parse).collect();
        keys.map(|keys| AuthorityKey { keys }).map_err(|_| KeyFault::NotRsa)
    }

    /// Whether the authority signed this message. The signature is text: base64 of either
    /// alphabet, with padding or without, or hex; blanks around it do not count.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &str) -> bool {
        let signature = signature.trim();
        if signature.len() > SEAL_ANSWER_BYTES_MAX {
            return false;
        }
        // Hex is base64 too, so both readings are tried.
        let readings = [from_base64(signature), from_hex(signature)];
        readings.into_iter().flatten().any(|signature| {
            self.keys.iter().any(|key| key.verify_sig(message, &signature).is_ok())
        })
    }
}

/// Bits of a number, big end first, without leading zeros.
fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |first| first.leading_zeros());
    number.len() * 8 - usize::try_from(zeros).expect("at most eight")
}

/// What the first section of a PEM text holds.
fn section(pem: &[u8]) -> Result<Vec<u8>, KeyFault> {
    let text = std::str::from_utf8(pem).map_err(|_| KeyFault::NotPem)?;
    let (_, from) = text.split_once("-----BEGIN ").ok_or(KeyFault::NotPem)?;
    let (label, from) = from.split_once("-----").ok_or(KeyFault::NotPem)?;
    let (body, _) = from.split_once(&format!("-----END {label}-----")).ok_or(KeyFault::NotPem)?;
    match label {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        _ if label.contains("PRIVATE KEY") => return Err(KeyFault::Private),
        _ => return Err(KeyFault::OtherKind),
    }
    let digits: String = body.split_whitespace().collect();
    BASE64.decode(digits).map_err(|_| KeyFault::NotBase64)
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let standard = text.replace('-', "+").replace('_', "/");
    BASE64.decode(standard).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = text.as_bytes().iter().map(digit).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests;
