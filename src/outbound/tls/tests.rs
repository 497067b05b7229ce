//! Servers with certificates that are in order and certificates that are not.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::outbound::client::{Call, CallLimits, Client};
use crate::outbound::fault::{CallFault, Phase, TlsFault};
use crate::outbound::harness::{GENEROUS, Reply, Seen, Told, answer, converse, get, target};
use crate::outbound::lookup::Lookup;
use crate::outbound::vet::Vet;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A stranger under the same name would be told by his signature, not by his name.
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).expect("a name")
}

/// A server on this machine with a certificate of these particulars.
async fn server(issuer: &Issuer, params: CertificateParams) -> (u16, watch::Receiver<Seen>) {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (noted, seen) = watch::channel(Seen::default());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let replies = Arc::new(vec![Reply::Send(answer("200 OK", "", "safe"))]);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                noted.send_modify(|seen| seen.connections += 1);
                tokio::spawn(converse(stream, Arc::clone(&replies), noted.clone()));
            }
        }
    });
    (port, seen)
}

/// A client that trusts this issuer, too, and to which every name is this machine.
fn trusting(issuer: &Issuer) -> Client {
    let tls = Tls::with_roots(issuer.pem().as_bytes()).expect("a root");
    let lookup: Arc<dyn Lookup> = Told::new([Some(vec!["127.0.0.1"])]);
    Client::with_lookup(Vet::none(), &tls, lookup)
}

async fn fault(client: &Client, url: &str) -> Option<CallFault> {
    client.call(get(&target(url))).await.err()
}

#[tokio::test]
async fn a_server_with_a_certificate_for_its_name_is_called_and_its_connection_used_again() {
    let issuer = issuer("tests");
    for name in ["hook.example", "127.0.0.1"] {
        let (port, seen) = server(&issuer, params(name)).await;
        let (client, url) = (trusting(&issuer), target(&format!("https://{name}:{port}/")));
        for _ in 0..2 {
            let answer = client.call(get(&url)).await.expect("an answer");
            assert_eq!(&answer.body[..], b"safe");
        }
        assert_eq!((seen.borrow().connections, seen.borrow().requests.len()), (1, 2));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_in_order_ends_the_call_before_anything_is_sent() {
    let issuer = issuer("tests");
    let tls = |fault| Some(CallFault::Tls(fault));
    let stranger = self::issuer("stranger");
    let (port, seen) = server(&stranger, params("hook.example")).await;
    let url = format!("https://hook.example:{port}/");
    assert_eq!(fault(&trusting(&issuer), &url).await, tls(TlsFault::Issuer));
    assert!(seen.borrow().requests.is_empty());

    let (port, seen) = server(&issuer, params("other.example")).await;
    let url = format!("https://hook.example:{port}/");
    assert_eq!(fault(&trusting(&issuer), &url).await, tls(TlsFault::Name));
    let url = format!("https://127.0.0.1:{port}/");
    assert_eq!(fault(&trusting(&issuer), &url).await, tls(TlsFault::Name));
    assert!(seen.borrow().requests.is_empty());

    let mut past = params("hook.example");
    past.not_after = date_time_ymd(2020, 1, 1);
    let mut future = params("hook.example");
    future.not_before = date_time_ymd(2999, 1, 1);
    for params in [past, future] {
        let (port, seen) = server(&issuer, params).await;
        let url = format!("https://hook.example:{port}/");
        assert_eq!(fault(&trusting(&issuer), &url).await, tls(TlsFault::Expired));
        assert!(seen.borrow().requests.is_empty());
    }
}

#[tokio::test]
async fn the_roots_of_the_web_do_not_vouch_for_just_anybody() {
    let (port, _) = server(&issuer("tests"), params("hook.example")).await;
    let lookup: Arc<dyn Lookup> = Told::new([Some(vec!["127.0.0.1"])]);
    let client = Client::with_lookup(Vet::none(), &Tls::public(), lookup);
    let found = fault(&client, &format!("https://hook.example:{port}/")).await;
    assert_eq!(found, Some(CallFault::Tls(TlsFault::Issuer)));
}

#[tokio::test]
async fn what_does_not_speak_tls_is_no_secure_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}/", listener.local_addr().expect("bound"));
    let client = Client::new(Vet::none(), &Tls::public());
    for reply in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b""] {
        let answer = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::io::AsyncWriteExt::write_all(&mut stream, reply).await.expect("open");
        };
        let (found, ()) = tokio::join!(fault(&client, &url), answer);
        let reply = String::from_utf8_lossy(reply);
        assert_eq!(found, Some(CallFault::Tls(TlsFault::Protocol)), "{reply:?}");
    }
}

#[tokio::test]
async fn plain_http_to_a_secure_server_is_a_fault_and_not_a_hang() {
    let issuer = issuer("tests");
    let (port, _) = server(&issuer, params("hook.example")).await;
    let found = fault(&trusting(&issuer), &format!("http://hook.example:{port}/")).await;
    assert!(matches!(found, Some(CallFault::Broken | CallFault::Closed)), "{found:?}");
}

#[tokio::test]
async fn a_server_that_never_agrees_on_keys_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}/", listener.local_addr().expect("bound"));
    let client = Client::new(Vet::none(), &Tls::public());
    let hold = async {
        let held: (TcpStream, _) = listener.accept().await.expect("a connection");
        tokio::time::pause();
        held
    };
    let (found, _held) = tokio::join!(fault(&client, &url), hold);
    let late = Some(CallFault::TimedOut { phase: Phase::Connect });
    assert_eq!(found, late);
    // Also when whoever calls would wait for ever, or waits no more: see `Connector`.
    let url = target(&url);
    let limits = CallLimits { connect_ms: 1 << 32, deadline_ms: 1 << 32, ..GENEROUS };
    assert_eq!(client.call(Call { limits, ..get(&url) }).await.err(), late);
}

#[test]
fn a_text_without_a_whole_certificate_is_refused() {
    let half = b"-----BEGIN CERTIFICATE-----\nMIIB";
    let wrong = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (pem, expected) in [
        (&b""[..], RootFault::None),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", RootFault::None),
        (half, RootFault::Malformed(1)),
        (wrong, RootFault::Malformed(1)),
    ] {
        assert_eq!(Tls::with_roots(pem).err(), Some(expected));
    }
}
