//! Whom the client really connects to, whatever names stand for.

use tokio::net::TcpListener;

use super::*;
use crate::outbound::client::{Call, CallLimits, Client};
use crate::outbound::harness::{GENEROUS, Reply, Server, Told, answer, get, target};
use crate::outbound::target::{Target, UrlFault};
use crate::outbound::vet::ECHO_PATH;

fn client(vet: Vet, told: &Arc<Told>) -> Client {
    let lookup: Arc<dyn Lookup> = told.clone();
    Client::with_lookup(vet, &Tls::public(), lookup)
}

fn allowing(net: &str) -> Vet {
    Vet::public(vec![net.parse().expect("a network")], Vec::new())
}

fn vetoed(ip: &str) -> CallFault {
    CallFault::Vetoed(ip.parse().expect("an address"))
}

async fn server() -> Server {
    Server::start(vec![Reply::Send(answer("200 OK", "", "here"))]).await
}

/// The server under a name.
fn named(server: &Server) -> Target {
    target(&format!("http://hook.example:{}/", server.address.port()))
}

#[tokio::test]
async fn a_name_is_dialled_at_the_address_that_it_stands_for() {
    let server = server().await;
    let told = Told::new([Some(vec!["127.0.0.1"])]);
    let client = client(allowing("127.0.0.1/32"), &told);
    let answer = client.call(get(&named(&server))).await.expect("an answer");
    assert_eq!(&answer.body[..], b"here");
    assert_eq!(told.asked(), ["hook.example"]);
    let host = format!("\r\nhost: hook.example:{}\r\n", server.address.port());
    assert!(server.seen().requests[0].contains(&host));
}

#[tokio::test]
async fn an_address_in_the_url_is_vetted_where_it_is_dialled() {
    let server = server().await;
    let told = Told::new([Some(vec!["127.0.0.1"])]);
    let client = client(Vet::public(Vec::new(), Vec::new()), &told);
    let port = server.address.port();
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0", "[::ffff:127.0.0.1]", "[::1]"] {
        for scheme in ["http", "https"] {
            let url = target(&format!("{scheme}://{host}:{port}/"));
            let outcome = client.call(get(&url)).await;
            assert!(matches!(outcome, Err(CallFault::Vetoed(_))), "{url:?}: {outcome:?}");
            let resolved = client.resolve(&url, 1000).await;
            assert!(matches!(resolved, Err(UrlFault::Vetoed(_))), "{url:?}: {resolved:?}");
        }
    }
    assert_eq!(server.seen().connections, 0);
    assert!(told.asked().is_empty(), "an address needs no look-up");
}

#[tokio::test]
async fn a_name_that_stands_for_a_forbidden_address_is_not_dialled() {
    let server = server().await;
    for ip in [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001::1",
    ] {
        let told = Told::new([Some(vec![ip])]);
        let client = client(Vet::public(Vec::new(), Vec::new()), &told);
        let outcome = client.call(get(&named(&server))).await;
        assert_eq!(outcome.err(), Some(vetoed(ip)), "{ip}");
    }
    let told = Told::new([Some(vec!["::ffff:127.0.0.1"])]);
    let client = client(Vet::public(Vec::new(), Vec::new()), &told);
    let outcome = client.call(get(&named(&server))).await;
    assert_eq!(outcome.err(), Some(vetoed("127.0.0.1")));
    assert_eq!(server.seen().connections, 0);
}

#[tokio::test]
async fn a_name_that_changes_between_two_questions_gains_nothing() {
    let server = server().await;
    let told = Told::new([Some(vec!["8.8.8.8"]), Some(vec!["127.0.0.1"])]);
    let client = client(Vet::public(Vec::new(), Vec::new()), &told);
    let url = named(&server);
    assert_eq!(client.resolve(&url, 1000).await, Ok(()));
    assert_eq!(client.call(get(&url)).await.err(), Some(vetoed("127.0.0.1")));
    assert_eq!(server.seen().connections, 0);
}

#[tokio::test]
async fn a_connection_is_made_to_the_address_of_the_one_question_that_was_asked() {
    let server = server().await;
    // Were it asked again after it was vetted, nobody would answer at the second address.
    let told = Told::new([Some(vec!["127.0.0.1"]), Some(vec!["127.0.0.2"])]);
    let client = client(allowing("127.0.0.0/8"), &told);
    assert!(client.call(get(&named(&server))).await.is_ok());
    assert_eq!(told.asked().len(), 1);
}

#[tokio::test]
async fn of_several_addresses_only_those_that_may_be_are_dialled() {
    let server = server().await;
    let port = server.address.port();
    let beside = TcpListener::bind(("127.0.0.2", port)).await.expect("the same port is free");
    let beside = Server::on(beside, vec![Reply::Send(answer("200 OK", "", "there"))]);
    let told = Told::new([Some(vec!["127.0.0.2", "::1", "127.0.0.1", "10.0.0.1"])]);
    let client = client(allowing("127.0.0.1/32"), &told);
    let answer = client.call(get(&named(&server))).await.expect("an answer");
    assert_eq!(&answer.body[..], b"here");
    assert_eq!(beside.seen().connections, 0);
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_fails() {
    let server = server().await;
    let told = Told::new([Some(vec!["127.0.0.2", "127.0.0.3", "127.0.0.1"])]);
    let client = client(Vet::none(), &told);
    assert!(client.call(get(&named(&server))).await.is_ok());
    let nobody = Told::new([Some(vec!["127.0.0.2", "127.0.0.3"])]);
    let outcome = self::client(Vet::none(), &nobody).call(get(&named(&server))).await;
    assert_eq!(outcome.err(), Some(CallFault::Refused));
}

/// A listener whose queue is full, so that connecting to it hangs, and who fills it.
async fn silent(address: SocketAddr) -> (socket2::Socket, Vec<TcpStream>) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&address.into()).expect("a free port");
    socket.listen(0).expect("a listener");
    let address = socket.local_addr().expect("bound").as_socket().expect("of IP");
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    (socket, waiting)
}

#[tokio::test]
async fn the_next_address_is_tried_beside_one_that_is_silent() {
    let server = server().await;
    let _silent = silent(SocketAddr::new([127, 0, 0, 2].into(), server.address.port())).await;
    let told = Told::new([Some(vec!["127.0.0.2", "127.0.0.1"])]);
    let answer = client(Vet::none(), &told).call(get(&named(&server))).await.expect("an answer");
    assert_eq!(&answer.body[..], b"here");
}

#[tokio::test]
async fn who_is_silent_is_left_when_the_time_for_a_connection_is_over() {
    let (silent, _waiting) = silent("127.0.0.1:0".parse().expect("an address")).await;
    let address = silent.local_addr().expect("bound").as_socket().expect("of IP");
    let url = target(&format!("http://{address}/"));
    let client = Client::new(Vet::none(), &Tls::public());
    tokio::time::pause();
    let late = CallFault::TimedOut { phase: Phase::Connect };
    assert_eq!(client.call(get(&url)).await.err(), Some(late));
    let total = CallLimits { connect_ms: 1_000_000, deadline_ms: 100, ..GENEROUS };
    let call = Call { limits: total, ..get(&url) };
    assert_eq!(client.call(call).await.err(), Some(late));
    // Nobody may wait longer than this for a connection.
    let patient = CallLimits { connect_ms: 1_000_000, deadline_ms: 1_000_000, ..GENEROUS };
    let call = Call { limits: patient, ..get(&url) };
    assert_eq!(client.call(call).await.err(), Some(late));
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_is_silent_is_left_in_time() {
    let url = target("http://hook.example/");
    let told = Told::new([None]);
    let client = client(Vet::none(), &told);
    let late = CallFault::TimedOut { phase: Phase::Connect };
    assert_eq!(client.call(get(&url)).await.err(), Some(late));
    assert_eq!(client.resolve(&url, 1000).await, Err(UrlFault::LookupTimedOut));
}

#[tokio::test]
async fn a_name_without_an_address_is_told_from_a_forbidden_one() {
    let url = target("http://hook.example/");
    let told = Told::new([Some(Vec::new())]);
    let client = client(Vet::public(Vec::new(), Vec::new()), &told);
    assert_eq!(client.call(get(&url)).await.err(), Some(CallFault::Unresolvable));
    assert_eq!(client.resolve(&url, 1000).await, Err(UrlFault::Unresolvable));
    // The system is asked, and knows this name without asking anybody else.
    let client = Client::new(Vet::public(Vec::new(), Vec::new()), &Tls::public());
    let local = client.resolve(&target("http://localhost/"), 60_000).await;
    assert!(matches!(local, Err(UrlFault::Vetoed(_))), "{local:?}");
}

#[tokio::test]
async fn the_servers_own_listener_is_not_dialled_under_any_name() {
    let server = server().await;
    let own = vec![server.address];
    let everything = vec!["0.0.0.0/0".parse().expect("v4"), "::/0".parse().expect("v6")];
    for ip in ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"] {
        let told = Told::new([Some(vec![ip])]);
        let client = client(Vet::public(everything.clone(), own.clone()), &told);
        let outcome = client.call(get(&named(&server))).await;
        assert!(matches!(outcome, Err(CallFault::Vetoed(_))), "{ip}: {outcome:?}");
    }
    assert_eq!(server.seen().connections, 0);
}

#[tokio::test]
async fn the_servers_own_echo_is_dialled_where_it_was_opened_and_lends_its_connection_to_nobody() {
    let server = server().await;
    let own = vec![server.address];
    let told = Told::new([Some(vec!["127.0.0.1"])]);
    let at = |path: &str| target(&format!("http://hook.example:{}{path}", server.address.port()));
    let opened = client(Vet::public(vec!["127.0.0.0/8".parse().expect("v4")], own.clone()), &told);
    assert!(opened.call(get(&at(ECHO_PATH))).await.is_ok());
    assert_eq!(opened.resolve(&at(ECHO_PATH), 60_000).await, Ok(()));
    for path in ["/", "/crypto/test-webhook/", "/crypto/test-webhook?a=1", "/crypto/sign"] {
        let outcome = opened.call(get(&at(path))).await;
        assert_eq!(outcome.err(), Some(vetoed("127.0.0.1")), "{path}");
        assert!(opened.resolve(&at(path), 60_000).await.is_err(), "{path}");
    }
    let closed = client(Vet::public(Vec::new(), own), &told);
    assert_eq!(closed.call(get(&at(ECHO_PATH))).await.err(), Some(vetoed("127.0.0.1")));
    assert_eq!(server.seen().connections, 1);
}

#[tokio::test]
async fn connections_of_the_operators_client_are_no_way_past_the_vetting() {
    let server = server().await;
    let told = Told::new([Some(vec!["127.0.0.1"])]);
    let url = named(&server);
    assert!(client(Vet::none(), &told).call(get(&url)).await.is_ok());
    let strict = client(Vet::public(Vec::new(), Vec::new()), &told);
    assert_eq!(strict.call(get(&url)).await.err(), Some(vetoed("127.0.0.1")));
    assert_eq!(server.seen().connections, 1);
}

#[tokio::test]
async fn of_many_addresses_only_so_many_are_tried() {
    let many = vec!["127.0.0.2"; 100];
    let told = Told::new([Some(many)]);
    let lookup: Arc<dyn Lookup> = told.clone();
    let dialler = Dialler::new(Vet::none(), lookup);
    let name = TargetHost::Name("hook.example".to_owned());
    let addresses = dialler.addresses(&name, 80).await.expect("some");
    assert_eq!(addresses.len(), DIAL_ADDRESSES_MAX);
}
