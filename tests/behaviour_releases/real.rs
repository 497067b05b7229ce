//! Real servers as nodes: three that serve groups are a cluster to a fourth.

use std::net::SocketAddr;

use crate::common::{Server, Store};
use crate::support::*;

/// A server that serves groups, at an address that it keeps.
struct Partner {
    store: Store,
    address: SocketAddr,
    server: Option<Server>,
}

impl Partner {
    fn start() -> Partner {
        let store = Store::new().with(&["--serve-groups"]);
        let server = store.serve();
        Partner { store, address: server.address(), server: Some(server) }
    }

    fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    fn serve(&mut self) {
        let server = self.store.try_serve_at(&self.address.to_string());
        self.server = Some(server.expect("its address is free again"));
    }

    #[track_caller]
    fn has(&self, group: &str) -> bool {
        let mut client = self.server.as_ref().expect("it runs").client();
        let answer = client.get(&format!("/v1/group/{group}/"));
        assert!(matches!(answer.status, 200 | 404), "{}", answer.status);
        answer.status == 200
    }
}

#[test]
fn three_servers_are_a_cluster_whoever_of_the_four_is_killed() {
    let mut partners = [Partner::start(), Partner::start(), Partner::start()];
    let urls = partners.each_ref().map(|partner| format!("http://{}", partner.address));
    let store = Store::new().with(&["--nodes", &urls.join(",")]);
    let store = store.with(&["--node-deadline", "1s"]).with(&["--heal-every", "200ms"]);
    let mut server = store.serve();
    let mut client = server.client();
    let holders = |partners: &[Partner], group: &str| {
        partners.iter().filter(|partner| partner.has(group)).count()
    };
    assert_stands(&carry_out(&mut client, "create", "g"), "succeeded", &["done"; 3]);
    assert_eq!(holders(&partners, "g"), 3);
    for round in 0..3 {
        let group = format!("round {round}").replace(' ', "-");
        partners[round].kill();
        let created = begin(&mut client, "create", &group);
        let deleted = begin(&mut client, "delete", "g");
        for id in [&created, &deleted] {
            await_state(&mut client, id, &["to_be_retried"]);
        }
        server.kill();
        partners[round].serve();
        server = store.serve();
        client = server.client();
        for id in [&created, &deleted] {
            assert_eq!(await_end(&mut client, id)["state"], "succeeded");
        }
        assert_eq!((holders(&partners, &group), holders(&partners, "g")), (3, 0));
        assert_eq!(carry_out(&mut client, "create", "g")["state"], "succeeded");
    }
    let shown = client.get("/groups/g").expect(200).json();
    assert_eq!(shown["agree"], true, "{shown}");
}
