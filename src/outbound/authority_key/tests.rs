//! Keys and signatures that OpenSSL made, in every form that is accepted and some that are not.
//!
//! The private key was thrown away.

use super::*;

const MESSAGE: &str = "Eau de Sillage: a&b=ü %";

const SPKI: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA3x2aSkhm/H1Tvl1OMlTT
kluMVEqc7Um8MdwP8vEByiHXlVbwrZlvC8+r2kcYPI9B9eAPGQEwcc1kFEQNOYoq
3+PTSxzaKqNRomVHqlBURB+Ra2PxH8wRaY8531u/1WV0BTzEXzUA7g3xINHwizva
JZ5I6lmvvzPJyYmbSyHVwiVWj69nkBJ3aut1OXQeqQY++NGAnNmc6KvHPTO5pepo
YgKJgOlmWiWNHHp2OKSg/MXLq3xnf8GFfWQbKb5fpSPsUkT08i7byj4aMUUQ8DTh
chrEH7D3qDjUjW1fUGQ2beBFZIW1bNdQ4vuwAdjvudc30JyGAvRZniVoekZFu8W9
/wIDAQAB
-----END PUBLIC KEY-----
";

const PKCS1: &str = "\
-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEA3x2aSkhm/H1Tvl1OMlTTkluMVEqc7Um8MdwP8vEByiHXlVbwrZlv
C8+r2kcYPI9B9eAPGQEwcc1kFEQNOYoq3+PTSxzaKqNRomVHqlBURB+Ra2PxH8wR
aY8531u/1WV0BTzEXzUA7g3xINHwizvaJZ5I6lmvvzPJyYmbSyHVwiVWj69nkBJ3
aut1OXQeqQY++NGAnNmc6KvHPTO5pepoYgKJgOlmWiWNHHp2OKSg/MXLq3xnf8GF
fWQbKb5fpSPsUkT08i7byj4aMUUQ8DThchrEH7D3qDjUjW1fUGQ2beBFZIW1bNdQ
4vuwAdjvudc30JyGAvRZniVoekZFu8W9/wIDAQAB
-----END RSA PUBLIC KEY-----
";

const SHORT: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDVqj2jvxAdsVn1a/UMOH9sJOfa
Tpgut3PPd8CLujTA9smdFqz9FXU1ymuMDryvDzN41SPWZV7X99ua1gMBu3YSi6o3
Xgo8C2ZhGFqM8m9WJForeYfauY1FG1coMkGmTg0MRU9IoQtAA1uOLGrGjcCgHY3r
AYyo40dbtlVKPGYmZwIDAQAB
-----END PUBLIC KEY-----
";

const ELLIPTIC: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPY8oJ20dSl4qrQ+AraY1DltN6EFE
1vCSEHkU/dmZ9cOBPIDba0OPYDVjrSqQUWCOQoXeaXbCKfCwGPAB8tbYRQ==
-----END PUBLIC KEY-----
";

/// RSA PKCS#1 v1.5, SHA-256.
const SIGNED_PKCS1: &str = "\
    VG/6ImyFYBbylCs5i1y2YrkJvKG63Mwf9tM3u9j2eGXJRRBS+Afqgd4hgDSEY+MlCA083sDYfbam2QJubWakxNZM\
    WqCj0t4P+nu3aLRD38i1RWyxaLEu9aWZVXtokpFlmDasm3YBeM9rADv7355lh4PMEgGMATIr3iOcAaMEP/jB15sN\
    SeFn72sxhP9LBn8mpHZzGlkna5LmI4ElTqW1N773qJfM+vBF8P8u+bfsjTdbkzKpitZej2t34mQLUkUFrm1xcQVS\
    bY9LKOVv9L58gRxUBrplUBzkLn2aafmnkf0veVgh3uR/fkhKCLEYQ+SEq02pzpew+MAfhSf2DgsPdg==";

/// RSA-PSS, SHA-256, a salt of 32 bytes.
const SIGNED_PSS: &str = "\
    F5j0pwWnh+58+E5iEd6Wpwk0M1X9Lwds8DgowWtFqaSr2beikO/wd7h9j0K/fbzhdG62QsVFvqRCJ7/tvwB0ix1w\
    9cr/WaHKycPNHBnv9Xu8oCWBqZXv37b1rjHK17pnuTH22H0uBVNVdNMvQKt7gyyvH2bho/EWDj5yzQeB+GaNrU7l\
    uOICjA2izwA4gQfsrNhK/cWzUOrUEn4i0Az0bI3cTKqLOs6EcRUDGz1nEfTeAqkcKTXQzKviDiLJA+ympNPgGgka\
    yEeYHsc4i7elzGZWBWuUdlnVaMcE8VTNUXAVdy/S8SK/MLdTFhtRDq7gSDc6Jm9cvr43UgncXvaU8w==";

/// RSA-PSS, SHA-256, the longest salt.
const SIGNED_PSS_LONGEST: &str = "\
    IGCO4UaKH78CmSEepN9kb3lOIowDlcnkiEBwU2wmzFhmfhetJWM9nYg8FBJOa3e/OvlttyIC+NaeWlO01sjBO+O+\
    ++eci7Nm8KRyYQ17PXm+q9TMc1Dkn2A0QVnx508XSwWaiwaOcNeMLHlQ1NkUWqCybDef+XM9UGqslJHtNqBzJuFY\
    SN4Q58i+DB8TEUtdntb24mdFxenXdgc7s0qH/xr8AkaXR3bpNhxPnBri/hFKASrcrR/v/fO+RqbJXTbRDPlwCDYd\
    Yk7/QzgYWL32gouQwLoMYDGzjG8gZ42VMgPkocrvmZM/MR0eJ/zRaL2x20HTc6Ir7ald2vMJ0Cl9VQ==";

/// RSA PKCS#1 v1.5, SHA-512.
const SIGNED_SHA512: &str = "\
    RlHgHLB9SQbzndjj1YBZW+h8qFerU5QzhlJwPieqkxYgWbba7Sp92n2GePxY20eEfzMMz7/H22f9Mvwzc62HnvHZ\
    N8kh/m75Sn9cdEURBPH2NuhSR+Jeh/w9nKid8gMwAnrIjCIaqS3tS5wX49101U1QIIdufZuT7nYQdhIEnRaRE3qS\
    vVFW9IBW/FOStaDRmrboHEoh4j34QckZ460regF8qK3Ee797eO+uAU8glVfcGcAt6UWH5GiWD8V6HfaWJyGavq/f\
    0C5pXF0DMiDCNG+cS7FaTOJbAJ3BlVooaTJ1dR207gev9UINc8kqr6iQrqrV1XX/OK3LScQoALUJKA==";

fn key() -> AuthorityKey {
    AuthorityKey::from_pem(SPKI.as_bytes()).expect("a key")
}

fn fault(pem: &str) -> Option<KeyFault> {
    AuthorityKey::from_pem(pem.as_bytes()).err()
}

fn hex(base64: &str) -> String {
    let bytes = BASE64.decode(base64).expect("base64");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_signature_holds_by_each_scheme_with_the_key_in_either_form() {
    for pem in [SPKI, PKCS1] {
        let key = AuthorityKey::from_pem(pem.as_bytes()).expect("a key");
        for signature in [SIGNED_PKCS1, SIGNED_PSS, SIGNED_PSS_LONGEST] {
            assert!(key.verify(MESSAGE.as_bytes(), signature));
            assert!(!key.verify(b"Eau de Sillage: a&b=u %", signature));
            assert!(!key.verify(b"", signature));
        }
        assert!(!key.verify(MESSAGE.as_bytes(), SIGNED_SHA512));
    }
}

#[test]
fn a_signature_is_read_in_every_spelling_in_use() {
    let key = key();
    let unpadded = SIGNED_PSS.trim_end_matches('=');
    let url_safe = SIGNED_PSS.replace('+', "-").replace('/', "_");
    assert_ne!(unpadded, SIGNED_PSS);
    assert_ne!(url_safe, SIGNED_PSS);
    for spelling in [
        unpadded.to_owned(),
        url_safe.trim_end_matches('=').to_owned(),
        url_safe,
        format!(" \r\n{SIGNED_PSS}\n"),
        hex(SIGNED_PSS),
        hex(SIGNED_PSS).to_uppercase(),
    ] {
        assert!(key.verify(MESSAGE.as_bytes(), &spelling), "{spelling}");
    }
}

#[test]
fn what_is_no_signature_is_refused_without_a_panic() {
    let key = key();
    let hex = hex(SIGNED_PSS);
    let zeros = BASE64.encode([0; 256]);
    let ones = BASE64.encode([0xff; 256]);
    for wrong in [
        "",
        " ",
        "=",
        "signature",
        "ü",
        "0",
        &hex[1..],
        &hex[2..],
        &SIGNED_PSS[4..],
        &format!("{SIGNED_PSS}AAAA"),
        &format!("\"{SIGNED_PSS}\""),
        &zeros,
        &ones,
        &"A".repeat(SEAL_ANSWER_BYTES_MAX),
        &"A".repeat(SEAL_ANSWER_BYTES_MAX + 1),
    ] {
        assert!(!key.verify(MESSAGE.as_bytes(), wrong), "{wrong}");
    }
}

#[test]
fn a_key_is_found_among_other_text_and_with_any_line_ends() {
    for pem in [
        SPKI.replace('\n', "\r\n"),
        format!("\u{feff}The authority's key:\n\n{SPKI}\nof 2026"),
        SPKI.replace("-----\nMII", "-----MII"),
        format!("{SPKI}{ELLIPTIC}"),
    ] {
        assert_eq!(fault(&pem), None, "{pem}");
    }
}

#[test]
fn each_fault_of_a_key_is_named() {
    let (header, rest) = SPKI.split_once('\n').expect("lines");
    let begin = |label: &str| SPKI.replace("PUBLIC KEY", label);
    for (pem, expected) in [
        (String::new(), KeyFault::NotPem),
        (rest.to_owned(), KeyFault::NotPem),
        (header.to_owned(), KeyFault::NotPem),
        (SPKI.replace("-----END PUBLIC", "-----END RSA PUBLIC"), KeyFault::NotPem),
        ("ssh-rsa AAAAB3NzaC1yc2E= me@here".to_owned(), KeyFault::NotPem),
        (begin("PRIVATE KEY"), KeyFault::Private),
        (begin("RSA PRIVATE KEY"), KeyFault::Private),
        (begin("ENCRYPTED PRIVATE KEY"), KeyFault::Private),
        (begin("CERTIFICATE"), KeyFault::OtherKind),
        (begin("EC PUBLIC KEY"), KeyFault::OtherKind),
        (SPKI.replacen("MII", "MI!", 1), KeyFault::NotBase64),
        (SPKI.replacen("MII", "AII", 1), KeyFault::NotRsa),
        (format!("{header}\n-----END PUBLIC KEY-----\n"), KeyFault::NotRsa),
        (ELLIPTIC.to_owned(), KeyFault::NotRsa),
        (SHORT.to_owned(), KeyFault::TooShort(1024)),
        (" ".repeat(AUTHORITY_KEY_BYTES_MAX + 1), KeyFault::TooLong),
    ] {
        assert_eq!(fault(&pem), Some(expected), "{pem}");
    }
    assert_eq!(AuthorityKey::from_pem(b"\xff").err(), Some(KeyFault::NotPem));
}

#[test]
fn a_key_that_is_damaged_anywhere_never_panics() {
    let der = section(SPKI.as_bytes()).expect("base64");
    for at in 0..der.len() {
        for bit in [0x01, 0x80] {
            let mut damaged = der.clone();
            damaged[at] ^= bit;
            let key = AuthorityKey::from_der(&damaged);
            let verifies = key.is_ok_and(|key| key.verify(MESSAGE.as_bytes(), SIGNED_PKCS1));
            // The parameters beside the algorithm's name, which are nothing, do not count.
            assert!(!verifies || matches!(at, 17 | 18), "byte {at}, bit {bit:#x}");
        }
        assert!(AuthorityKey::from_der(&der[..at]).is_err(), "cut at {at}");
    }
}
