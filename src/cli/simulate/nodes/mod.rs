//! The partner nodes on which a group is created and deleted: independent and unreliable.
//!
//! | call | answers |
//! |---|---|
//! | `POST /v1/group/ {"groupId"}` | 201 `{"groupId"}`, 400 if it exists |
//! | `DELETE /v1/group/ {"groupId"}` | 200 `{"groupId"}`, 404 |
//! | `GET /v1/group/{id}/` | 200 `{"groupId"}`, 404 |
//! | `GET /stats` | what this node has seen, for tests; `?group=A`, `?last=N`, `?after=N` |
//! | `GET /consistency` | where all groups are, on all nodes |
//! | `POST /behave` | tells this node how to behave from now on |
//!
//! All nodes live in one process, so that one look sees them at the same moment; what happens to
//! one says nothing to the others. A request is decided and has its effect in one step (`node`);
//! here it is only kept waiting and answered. So what a node has seen and what is on it never
//! contradict each other. A node that is down closes connections once it has read what they ask:
//! it can still be told to come up.

mod arguments;
mod conduct;
mod consistency;
mod groups;
mod manner;
mod node;
mod request;
mod stats;

pub(crate) use arguments::{BadNodes, NodesArgs};

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;
use tracing::info;

use crate::cli::failure::{Exit, Failure};
use crate::cli::simulate::nodes::consistency::Consistency;
use crate::cli::simulate::nodes::groups::Did;
use crate::cli::simulate::nodes::node::{Ending, Node, Plan};
use crate::cli::simulate::nodes::request::Request;
use crate::cli::simulate::nodes::stats::Choice;
use crate::cli::simulate::outcome::Outcome;
use crate::cli::simulate::server::{self, Changes, Double, Reply, Visit};
use crate::cli::simulate::voice::shown;
use crate::cli::system;

/// Plays the nodes until a signal.
pub(super) fn run(arguments: &NodesArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let addresses = arguments.addresses().map_err(Failure::Nodes)?;
    let seed = arguments.stage.seed.map_or_else(system::fresh_seed, Ok)?;
    let nodes = arguments.nodes(seed).map_err(Failure::Nodes)?;
    arguments.stage.start_events();
    info!(seed, nodes = nodes.len(), "chance grows from this seed");
    let desk = Desk { nodes: Mutex::new(nodes), urls: OnceLock::new(), changes: Changes::new() };
    let company = Arc::new(Company { desk: Arc::new(desk) });
    let exit = server::play(&addresses, Arc::clone(&company))?;
    if arguments.report {
        let nodes = company.desk.nodes();
        Consistency::of(company.desk.urls(), &nodes).print(out).map_err(Failure::Output)?;
    }
    Ok(exit)
}

/// All nodes.
struct Company {
    /// Shared with the effects that are yet to take place.
    desk: Arc<Desk>,
}

/// What changes from request to request.
struct Desk {
    nodes: Mutex<Vec<Node>>,
    /// The nodes' URLs, once they listen.
    urls: OnceLock<Vec<String>>,
    changes: Changes,
}

impl Double for Company {
    const NAME: &str = "nodes";

    fn opened(&self, addresses: &[SocketAddr]) {
        let urls = addresses.iter().map(|address| format!("http://{address}"));
        let urls = self.desk.urls.get_or_init(|| urls.collect());
        info!("ready for: sillage serve --nodes {}", urls.join(","));
    }

    async fn answer(&self, visit: Visit) -> Reply {
        match (&visit.method, visit.path.as_str()) {
            (&Method::GET, "/livez" | "/readyz") => Reply::text(StatusCode::OK, "ready\n"),
            (&Method::GET, "/stats") => self.stats(&visit).await,
            (&Method::GET, "/consistency") => {
                let nodes = self.desk.nodes();
                Reply::json(StatusCode::OK, &Consistency::of(self.desk.urls(), &nodes))
            }
            (&Method::POST, "/behave") => self.behave(&visit),
            _ => self.take(&visit).await,
        }
    }

    fn sum_up(&self) {
        let nodes = self.desk.nodes();
        let counts = nodes.iter().map(Node::counts);
        let (calls, looks) =
            counts.fold((0, 0), |(calls, looks), it| (calls + it.calls, looks + it.looks));
        let consistency = Consistency::of(self.desk.urls(), &nodes);
        info!("ended after {calls} calls and {looks} looks: {}", consistency.words());
    }
}

impl Company {
    /// Takes a request of the node API, or what was meant to be one.
    async fn take(&self, visit: &Visit) -> Reply {
        let request = Request::of(visit);
        let plan = self.desk.node(visit.place, |node| node.take(visit, &request));
        self.desk.changes.note();
        if let Some(late_ms) = plan.late_ms {
            tokio::spawn(Arc::clone(&self.desk).take_effect(
                visit.place,
                visit.number,
                visit.at_us,
                late_ms,
            ));
            info!("{}: no answer, and its effect in {late_ms} ms", line_of(visit, &request));
        }
        let mut presence =
            Presence { desk: &self.desk, visit, request: &request, plan: &plan, is_over: false };
        if plan.delay_ms > 0 {
            sleep(Duration::from_millis(plan.delay_ms)).await;
        }
        let (reply, outcome) = match &plan.ending {
            Ending::Never => std::future::pending().await,
            Ending::Sever => (Reply::Sever, Outcome::Severed),
            Ending::Page => {
                let page = "<!doctype html><title>Welcome</title>\n";
                (Reply::of(StatusCode::OK, "text/html", page.into()), Outcome::Status(200))
            }
            Ending::Answer(status, words) => {
                (reply_of(&request, *status, words), Outcome::Status(*status))
            }
        };
        presence.is_over = true;
        presence.end(outcome);
        reply
    }

    /// What a node has seen, all of it or what was chosen.
    async fn stats(&self, visit: &Visit) -> Reply {
        let changes = self.desk.changes.count(visit).await;
        let last = visit.parameter("last").and_then(|digits| digits.parse().ok());
        let choice = Choice { group: visit.parameter("group"), last };
        self.desk
            .node(visit.place, |node| Reply::json(StatusCode::OK, &node.report(changes, choice)))
    }

    fn behave(&self, visit: &Visit) -> Reply {
        let told = self.desk.node(visit.place, |node| node.tell(visit));
        self.desk.changes.note();
        match told {
            Ok(()) => {
                let body = String::from_utf8_lossy(&visit.body);
                info!(
                    "#{} node {} told to behave: {}",
                    visit.number,
                    visit.place,
                    shown(body.trim())
                );
                Reply::of(StatusCode::NO_CONTENT, "text/plain", "".into())
            }
            Err(fault) => Reply::text(StatusCode::BAD_REQUEST, format!("{fault}\n")),
        }
    }
}

impl Desk {
    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        self.nodes.lock().expect("nobody panics with the nodes")
    }

    fn node<T>(&self, place: usize, work: impl FnOnce(&mut Node) -> T) -> T {
        work(&mut self.nodes()[place])
    }

    fn urls(&self) -> &[String] {
        self.urls.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Lets a late effect take place once its time has come, unless it has already.
    async fn take_effect(self: Arc<Desk>, place: usize, number: u64, came_us: u64, late_ms: u64) {
        sleep(Duration::from_millis(late_ms)).await;
        let at_us = came_us + late_ms * 1000;
        if let Some(did) = self.node(place, |node| node.take_effect(number, at_us)) {
            self.changes.note();
            info!("#{number} node {place}: {late_ms} ms late, {}", words_of(did));
        }
    }
}

/// Ends a request; if its client leaves before it is answered, it is dropped.
struct Presence<'a> {
    desk: &'a Desk,
    visit: &'a Visit,
    request: &'a Request,
    plan: &'a Plan,
    is_over: bool,
}

impl Presence<'_> {
    /// Counts and tells what became of the request.
    fn end(&self, outcome: Outcome) {
        let Plan { ticket, manner, did, .. } = *self.plan;
        self.desk.node(self.visit.place, |node| node.end(ticket, outcome));
        self.desk.changes.note();
        let line = line_of(self.visit, self.request);
        info!("{line}: met {manner}, {}, {}", words_of(did), outcome.name());
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(Outcome::Left);
        }
    }
}

/// A request in the words of its line.
fn line_of(visit: &Visit, request: &Request) -> String {
    let about = shown(request.group().unwrap_or(&visit.path));
    format!("#{} node {} {} \"{about}\"", visit.number, visit.place, visit.method)
}

fn words_of(did: Did) -> &'static str {
    match did {
        Did::Nothing => "did nothing",
        Did::Created => "created",
        Did::Deleted => "deleted",
        Did::Pending => "did nothing yet",
    }
}

/// An answer as a node gives it.
fn reply_of(request: &Request, status: u16, words: &str) -> Reply {
    let code = StatusCode::from_u16(status).expect("nodes name sane ones only");
    match request.group().filter(|_| code.is_success()) {
        Some(group) => Reply::json(code, &json!({ "groupId": group })),
        None => Reply::json(code, &json!({ "error": words })),
    }
}
