//! The authority's key: made at the start, forgotten at the end.

use std::io;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Columns of a line in PEM (RFC 7468).
const PEM_COLUMNS: usize = 64;

/// An RSA key of 2048 bits.
pub(super) struct Key {
    pair: KeyPair,
    public_pem: String,
}

impl Key {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn generate() -> io::Result<Key> {
        let failed = |Unspecified| io::Error::other("the system gave no key");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(failed)?;
        let public_pem = pem("PUBLIC KEY", der.as_ref());
        Ok(Key { pair, public_pem })
    }

    /// The public half, as `SubjectPublicKeyInfo` in PEM.
    pub(super) fn public_pem(&self) -> String {
        self.public_pem.clone()
    }

    /// The signature of the message's UTF-8 bytes in base64.
    pub(super) fn sign(&self, message: &str) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        self.pair
            .sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)
            .expect("a whole key signs, and there is room for what it makes");
        STANDARD.encode(signature)
    }

    /// Whether the text is what `sign` makes of the message.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public_key());
        let bytes = STANDARD.decode(signature);
        bytes.is_ok_and(|bytes| public.verify(message.as_bytes(), &bytes).is_ok())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(PEM_COLUMNS) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_for_its_message_and_for_no_other() {
        let key = Key::generate().expect("the system has randomness");
        let signature = key.sign("a&b=ü %");
        assert_eq!(signature, key.sign("a&b=ü %"), "this scheme has no chance in it");
        assert!(key.verifies("a&b=ü %", &signature));
        assert!(!key.verifies("a&b=ü  ", &signature));
        assert!(!key.verifies("a&b=ü %", "no base64"));
        let other = Key::generate().expect("the system has randomness");
        assert!(!other.verifies("a&b=ü %", &signature));
    }

    #[test]
    fn the_public_key_is_pem_in_lines_of_64_columns() {
        let pem = Key::generate().expect("the system has randomness").public_pem();
        let lines: Vec<&str> = pem.lines().collect();
        assert_eq!(lines.first(), Some(&"-----BEGIN PUBLIC KEY-----"));
        assert_eq!(lines.last(), Some(&"-----END PUBLIC KEY-----"));
        assert!(lines.iter().all(|line| line.len() <= PEM_COLUMNS));
        assert_eq!(lines.iter().filter(|line| line.len() == PEM_COLUMNS).count(), 6);
    }
}
