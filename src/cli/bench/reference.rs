//! The servers that Sillage is compared with: hyper and nothing else, and hyper with all of the
//! work that needs no disk. Each runs in a process of its own, on one thread, like Sillage.

use std::convert::Infallible;
use std::io::{self, Read as _, Write};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::formula::{self, Rules};

/// What a reference server does with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reference {
    /// Reads it and answers with as many bytes: the cost of hyper, sockets and kernel.
    Bare,
    /// Parses, canonicalises and fingerprints it, then answers with as many bytes and stores
    /// nothing: the ceiling of any server that does its work in one thread.
    Ceiling,
}

/// Bytes of the answer to a GET, as many as one of our formulas has.
const GET_ANSWER: [u8; 700] = [b' '; 700];

/// Serves until standard input ends, which it does with the process that started this one. The
/// first line of standard output is the address.
pub(crate) async fn serve(reference: Reference, out: &mut impl Write) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let (gone, mut parent) = oneshot::channel();
    std::thread::spawn(move || {
        // However it ends, nobody is there any more; and the server may have ended itself.
        let _ended = io::stdin().read_to_end(&mut Vec::new());
        let _ = gone.send(());
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut parent => return Ok(()),
        };
        let (stream, _) = accepted?;
        stream.set_nodelay(true)?;
        let service = service_fn(move |request| answer(reference, request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A client that goes away ends its connection with an error, which concerns nobody.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    reference: Reference,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match *request.method() {
        Method::GET => (StatusCode::OK, Bytes::from_static(&GET_ANSWER)),
        _ => match request.into_body().collect().await {
            Ok(body) => work(reference, body.to_bytes()),
            Err(_) => (StatusCode::BAD_REQUEST, Bytes::new()),
        },
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

fn work(reference: Reference, body: Bytes) -> (StatusCode, Bytes) {
    if reference == Reference::Bare {
        return (StatusCode::CREATED, body);
    }
    match formula::parse(&body, &Rules::default()) {
        // Looked at, so that the compiler cannot leave the fingerprint out.
        Ok(checked) if std::hint::black_box(checked.fingerprint.0) != [0; 32] => {
            (StatusCode::CREATED, body)
        }
        _ => (StatusCode::BAD_REQUEST, body),
    }
}
