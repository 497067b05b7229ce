//! Connections: how many, how long, and how they end.

use std::net::{IpAddr, SocketAddr, TcpStream};

use sillage::http::Bounds;
use socket2::{Domain, Socket, Type};

use crate::server::{Client, Server, formula, post};

const GET: &str = "GET /livez HTTP/1.1\nHost: x\n\n";
const LONG_POLL: &str = "POST /queues/formulas/lease HTTP/1.1\nHost: x\n\
    Content-Type: application/json\nContent-Length: 14\n\n{\"wait_s\": 20}";

/// A client whose answer shows that the server has let it in.
fn inside(server: &Server) -> Client {
    let mut client = server.connect();
    client.send(GET);
    assert_eq!(client.reply().status, 200);
    client
}

/// Connects again until the server lets the client in.
fn eventually_inside(server: &Server) {
    loop {
        let mut client = server.connect();
        client.send(GET);
        if client.reply().status == 200 {
            return;
        }
    }
}

#[test]
fn connections_over_the_cap_are_told_so() {
    let bounds = Bounds { connections_max: 2, linger_ms: 50, ..Bounds::default() };
    let server = Server::start_with(bounds, None);
    let (first, mut second) = (inside(&server), inside(&server));
    let mut third = server.connect();
    third.send(GET);
    let reply = third.reply();
    reply.assert_problem(503, "overloaded");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(server.metrics.connections_refused.get(), 1);
    // The others are not disturbed, and a place that is left is free again.
    second.send(GET);
    assert_eq!(second.reply().status, 200);
    drop(first);
    eventually_inside(&server);
}

#[test]
fn one_address_cannot_take_every_place() {
    let bounds = Bounds { connections_per_address_max: 1, linger_ms: 50, ..Bounds::default() };
    let server = Server::start_with(bounds, None);
    let first = inside(&server);
    server.ask(GET).assert_problem(503, "overloaded");
    let mut other = Client::new(connect_from("127.0.0.2".parse().unwrap(), server.address));
    other.send(GET);
    assert_eq!(other.reply().status, 200);
    drop(first);
    eventually_inside(&server);
}

fn connect_from(address: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn a_connection_ends_after_its_share_of_requests() {
    let bounds = Bounds { requests_per_connection_max: 2, ..Bounds::default() };
    let server = Server::start_with(bounds, None);
    let mut client = server.connect();
    client.send(GET);
    assert_eq!(client.reply().header("connection"), None);
    client.send(GET);
    assert_eq!(client.reply().header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.connect();
    let posts: String =
        (0..50).map(|n| post(&format!("X-Request-Id: {n}\n"), &formula(n))).collect();
    client.send(&posts);
    for n in 0..50 {
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("x-request-id")), (201, Some(&*n.to_string())));
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let bounds = Bounds { write_deadline_ms: 100, ..Bounds::default() };
    let server = Server::start_with(bounds, None);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut client = Client::new(socket.into());
    let asked = 2000;
    client.try_send_bytes("GET /problems HTTP/1.1\r\nHost: x\r\n\r\n".repeat(asked).as_bytes());
    // Its place becomes free although it is still there.
    while server.metrics.connections_open.get() > 0 || server.metrics.sent_bytes.get() == 0 {
        std::thread::yield_now();
    }
    let page = server.ask("GET /problems HTTP/1.1\nHost: x\n\n").body.len();
    assert!(client.rest().len() < asked * page);
}

#[test]
fn a_long_poll_ends_when_its_client_hangs_up() {
    let server = Server::start();
    let mut client = server.connect();
    client.send(LONG_POLL);
    client.end();
    let began = std::time::Instant::now();
    assert_eq!(client.reply().status, 200);
    assert!(began.elapsed().as_secs() < 10, "it waited in vain");
    assert!(client.is_closed());
}

#[test]
fn draining_finishes_what_is_under_way_and_accepts_no_more() {
    let server = Server::start();
    let mut idle = inside(&server);
    let mut poll = inside(&server);
    poll.send(LONG_POLL);
    let mut upload = inside(&server);
    let body = formula(1);
    let head = post("Expect: 100-continue\n", &body);
    upload.send(head.strip_suffix(&body).unwrap());
    // Its handler waits for the body now.
    assert_eq!(upload.head().status, 100);

    server.trigger.advance();
    assert!(idle.is_closed());
    let reply = poll.reply();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    // The accept loop hears of it at the same moment, not earlier.
    while TcpStream::connect(server.address).is_ok() {}
    upload.send_bytes(body.as_bytes());
    let reply = upload.reply();
    assert_eq!((reply.status, reply.header("connection")), (201, Some("close")));
    assert!(upload.is_closed());
    server.join();
}

#[test]
fn a_second_signal_does_not_wait() {
    let server = Server::start();
    let mut client = inside(&server);
    client.send(&post("Expect: 100-continue\n", &formula(1)).replace("{", "").replace("}", ""));
    server.trigger.advance();
    server.trigger.advance();
    client.rest();
    server.join();
}

#[test]
fn draining_ends_even_if_a_client_does_not() {
    let server = Server::start_with(Bounds { drain_ms: 100, ..Bounds::default() }, None);
    let mut client = inside(&server);
    let body = formula(1);
    client.send(post("Expect: 100-continue\n", &body).strip_suffix(&body).unwrap());
    assert_eq!(client.head().status, 100);
    server.trigger.advance();
    assert!(client.is_closed());
    server.join();
}
