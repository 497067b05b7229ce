//! The clock stands still here and is moved by hand: no test waits.

use std::convert::Infallible;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::http::budget::Budget;

const DEADLINE: Duration = Duration::from_secs(10);
const HEAD: &str = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
const BYTES_MAX: usize = 1 << 20;

/// A server that answers with the number of bytes of the body, or with the problem's status.
fn server(budget: &Arc<Budget>) -> DuplexStream {
    let (client, socket) = tokio::io::duplex(1 << 20);
    let budget = Arc::clone(budget);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let pace = Pace { deadline: DEADLINE };
        let mut body =
            BodyReader::new(request.into_body(), pace, Arc::clone(&budget), Hangup::default());
        async move {
            let answer = match body.read_all(BYTES_MAX).await {
                Ok(bytes) => format!("{} bytes", bytes.len()),
                Err(problem) => format!("status {}", problem.status().as_u16()),
            };
            Ok::<_, Infallible>(hyper::Response::new(answer))
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service);
    tokio::spawn(connection);
    client
}

fn chunk(bytes: usize) -> Vec<u8> {
    let mut chunk = format!("{bytes:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + bytes, b' ');
    chunk.extend_from_slice(b"\r\n");
    chunk
}

async fn answer(client: &mut DuplexStream) -> String {
    let mut bytes = vec![0; 4096];
    let len = client.read(&mut bytes).await.expect("the pipe is open");
    let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
    text.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

/// Lets the server, whose tasks share this thread, do all it can without more bytes or time.
async fn at_rest() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Sends `chunks` of so many bytes with a pause before each; gives the answer.
async fn paced(pause: Duration, chunks: usize, bytes: usize) -> String {
    let mut client = server(&Arc::new(Budget::new(BYTES_MAX)));
    client.write_all(HEAD.as_bytes()).await.expect("the pipe is open");
    for _ in 0..chunks {
        at_rest().await;
        tokio::time::advance(pause).await;
        at_rest().await;
        // The server may have had enough and closed.
        drop(client.write_all(&chunk(bytes)).await);
    }
    drop(client.write_all(b"0\r\n\r\n").await);
    answer(&mut client).await
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_above_the_minimum_rate_may_take_its_time() {
    let nine = Duration::from_secs(9);
    assert_eq!(paced(nine, 20, 10 * 1024).await, "204800 bytes");
}

#[tokio::test(start_paused = true)]
async fn a_body_below_the_minimum_rate_is_cut_off() {
    // 90 bytes a second: allowed are ten seconds, and what came at the minimum rate.
    let nine = Duration::from_secs(9);
    assert_eq!(paced(nine, 1, 90).await, "90 bytes");
    assert_eq!(paced(nine, 3, 90).await, "status 408");
}

#[tokio::test(start_paused = true)]
async fn no_single_pause_may_exceed_the_deadline_however_much_came_before() {
    let mut client = server(&Arc::new(Budget::new(BYTES_MAX)));
    client.write_all(HEAD.as_bytes()).await.expect("the pipe is open");
    client.write_all(&chunk(500_000)).await.expect("the pipe is open");
    let began = Instant::now();
    assert_eq!(answer(&mut client).await, "status 408");
    assert_eq!(began.elapsed().as_secs(), DEADLINE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_gathered_share_a_budget_and_give_it_back() {
    let budget = Arc::new(Budget::new(1000));
    let mut holder = server(&budget);
    holder.write_all(HEAD.as_bytes()).await.expect("the pipe is open");
    holder.write_all(&chunk(600)).await.expect("the pipe is open");
    while budget.left() == 1000 {
        tokio::task::yield_now().await;
    }
    let whole = [HEAD.as_bytes(), &chunk(600), b"0\r\n\r\n"].concat();
    let mut refused = server(&budget);
    refused.write_all(&whole).await.expect("the pipe is open");
    assert_eq!(answer(&mut refused).await, "status 503");

    holder.write_all(b"0\r\n\r\n").await.expect("the pipe is open");
    assert_eq!(answer(&mut holder).await, "600 bytes");
    let mut served = server(&budget);
    served.write_all(&whole).await.expect("the pipe is open");
    assert_eq!(answer(&mut served).await, "600 bytes");
    assert_eq!(budget.left(), 1000);
}
