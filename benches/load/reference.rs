//! The servers that Sillage is compared with: hyper and nothing else, and hyper with all of the
//! work that needs no disk. Each runs in a process of its own, on one thread, like Sillage.

use std::convert::Infallible;
use std::io::Write;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sillage::formula::{self, Rules};
use tokio::net::TcpListener;

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

/// Serves for ever; the first line of standard output is the address.
pub(crate) async fn serve(reference: Reference) -> std::io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
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
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (status, body) = match *request.method() {
        Method::GET => (StatusCode::OK, Bytes::from_static(&GET_ANSWER)),
        _ => {
            let body = request.into_body().collect().await?.to_bytes();
            (work(reference, &body), body)
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

fn work(reference: Reference, body: &[u8]) -> StatusCode {
    if reference == Reference::Bare {
        return StatusCode::CREATED;
    }
    match formula::parse(body, &Rules::default()) {
        // Looked at, so that the compiler cannot leave the fingerprint out.
        Ok(checked) if std::hint::black_box(checked.fingerprint.0) != [0; 32] => {
            StatusCode::CREATED
        }
        _ => StatusCode::BAD_REQUEST,
    }
}
