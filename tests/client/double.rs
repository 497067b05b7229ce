//! A server that answers as a test wants and remembers what it was asked, and the program that is
//! run against it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A request as the double received it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// Status and body; a body that is no JSON object is sent as it is.
pub(crate) type Reply = (u16, String);

/// A server that answers by a function and remembers what it was asked.
pub(crate) struct Double {
    address: SocketAddr,
    received: Receiver<Received>,
}

impl Double {
    pub(crate) fn start(answer: impl FnMut(&Received) -> Reply + Send + 'static) -> Double {
        let (sender, received) = mpsc::channel();
        let (address_sender, address) = mpsc::channel();
        let answer = Arc::new(Mutex::new(answer));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                address_sender.send(listener.local_addr().expect("bound")).expect("waited for");
                while let Ok((stream, _)) = listener.accept().await {
                    let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                    let service = service_fn(move |request| {
                        let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                        async move {
                            let received = receive(request).await;
                            let reply = answer.lock().expect("no panic")(&received);
                            // The test may have seen enough and ended.
                            let _sent = sender.send(received);
                            Ok::<_, Infallible>(respond(reply))
                        }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connection);
                }
            });
        });
        let address = address.recv().expect("the double has started");
        Double { address, received }
    }

    /// Runs a command against the double.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, b"")
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        run_against(&format!("http://{}", self.address), arguments, input)
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.received.try_iter().collect()
    }
}

async fn receive(request: Request<Incoming>) -> Received {
    let line = format!("{} {}", request.method(), request.uri());
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
    let headers = headers.collect();
    let body = request.into_body().collect().await.expect("a whole request").to_bytes();
    Received { line, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

fn respond((status, body): Reply) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).expect("a status");
    let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
    response.expect("a plain response")
}

/// Runs a command with this address as the server's.
pub(crate) fn run_against(url: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sillage"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SILLAGE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("SILLAGE_URL", url).env("SILLAGE_TOKEN", "s3cret");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program that refuses its input does not read it to the end.
        let _written = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("our own child");
    writer.join().expect("writing does not panic");
    output
}

/// What the program printed, if it ended with this code.
#[track_caller]
pub(crate) fn said(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).expect("UTF-8")
}
