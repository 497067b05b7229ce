//! What operators and their tools ask: is it alive, is it ready, which version, how much.

use hyper::StatusCode;
use hyper::header::HeaderValue;

use crate::engine::Health;
use crate::engine::command::MessagePhase;
use crate::http::Context;
use crate::http::problem::{self, Kind, Problem};
use crate::http::queues::{self, Standing};
use crate::http::render::{self, Object};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::http::routes::Route;
use crate::metrics::{QueueDepth, TEXT_TYPE};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// `GET /`: what this server is and every call it takes.
pub(super) async fn index(context: &Context, _request: Request) -> Result<Response, Problem> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::scalar(object.member("name"), env!("CARGO_PKG_NAME"));
    render::scalar(object.member("version"), env!("CARGO_PKG_VERSION"));
    render::array(object.member("routes"), context.served.iter(), route);
    object.close();
    Ok(Response::json(StatusCode::OK, json))
}

fn route(out: &mut Vec<u8>, route: &Route) {
    let mut object = Object::open(out);
    render::scalar(object.member("method"), route.method.as_str());
    render::scalar(object.member("path"), route.path);
    render::scalar(object.member("summary"), route.summary);
    render::scalar(object.member("scope"), &route.scope.map(|scope| scope.name()));
    object.close();
}

/// `GET /livez`: whether the process should be left running.
pub(super) async fn livez(context: &Context, _request: Request) -> Result<Response, Problem> {
    alive(context.engine.health())
}

/// `GET /readyz`: whether the server should be sent work.
pub(super) async fn readyz(context: &Context, _request: Request) -> Result<Response, Problem> {
    if context.shutdown.is_draining() {
        return Err(not_ready("the server is stopping"));
    }
    ready(context.engine.health())
}

fn alive(health: Health) -> Result<Response, Problem> {
    match health {
        // A full disk is no reason to restart: intake resumes by itself.
        Health::Ready | Health::DiskFull => Ok(status_response("alive")),
        Health::Poisoned => Err(not_ready("the log has failed; the process is about to exit")),
    }
}

fn ready(health: Health) -> Result<Response, Problem> {
    match health {
        Health::Ready => Ok(status_response("ready")),
        Health::DiskFull => Err(not_ready("the disk is full")),
        Health::Poisoned => Err(not_ready("the log has failed; the process is about to exit")),
    }
}

fn status_response(status: &str) -> Response {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::scalar(object.member("status"), status);
    object.close();
    Response::json(StatusCode::OK, json)
}

fn not_ready(detail: &'static str) -> Problem {
    Problem::new(Kind::NotReady, detail)
}

/// `GET /version`: which program serves, and in which reign of the store.
pub(super) async fn version(context: &Context, _request: Request) -> Result<Response, Problem> {
    let mut json = Vec::new();
    let mut object = Object::open(&mut json);
    render::scalar(object.member("name"), env!("CARGO_PKG_NAME"));
    render::scalar(object.member("version"), env!("CARGO_PKG_VERSION"));
    render::scalar(object.member("epoch"), &context.engine.epoch().0);
    object.close();
    Ok(Response::json(StatusCode::OK, json))
}

/// `GET /metrics`: everything that is counted, for Prometheus.
pub(super) async fn metrics(context: &Context, _request: Request) -> Result<Response, Problem> {
    // When the log has failed nobody can say how the queues stand, but the other figures are
    // needed most then.
    if let Ok(standings) = queues::standings(context).await {
        let depths: Vec<QueueDepth> = standings.iter().map(depth).collect();
        context.metrics.set_queues(&depths);
    }
    // Time alone half-opens a breaker.
    let _ = context.node_health.view(context.engine.uptime());
    let durable_lsn = i64::try_from(context.engine.durable_lsn().0).unwrap_or(i64::MAX);
    context.metrics.durable_lsn.set(durable_lsn);
    let text_type = HeaderValue::from_static(TEXT_TYPE);
    Ok(Response::new(StatusCode::OK).body(text_type, context.metrics.text()))
}

fn depth(standing: &Standing) -> QueueDepth {
    let status = &standing.status;
    let counts = [
        (MessagePhase::Ready, status.ready),
        (MessagePhase::Leased, status.leased),
        (MessagePhase::Delayed, status.delayed),
        (MessagePhase::Dead, status.dead),
    ];
    let age_ms = standing.oldest_age_ms.unwrap_or(0);
    QueueDepth {
        queue: status.name.to_string(),
        messages: counts.map(|(phase, count)| (render::phase_name(phase), count)).into(),
        oldest_age_s: std::time::Duration::from_millis(age_ms).as_secs_f64(),
    }
}

/// `GET /problems`: every problem there is, for people.
pub(super) async fn problems(_context: &Context, _request: Request) -> Result<Response, Problem> {
    Ok(Response::new(StatusCode::OK).body(HTML, problem::index_page()))
}

/// `GET /problems/{slug}`: what a problem means and what to do, for people.
pub(super) async fn problem(_context: &Context, request: Request) -> Result<Response, Problem> {
    let page = problem::page(request.parameter());
    let page = page.ok_or_else(|| Problem::new(Kind::ProblemUnknown, "no problem has this name"));
    Ok(Response::new(StatusCode::OK).body(HTML, page?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::harness::Server;
    use crate::http::routes::ROUTES;

    #[tokio::test]
    async fn the_index_lists_every_route_of_the_table() {
        let index = Server::start().await.get("/").await.json();
        let routes = index["routes"].as_array().unwrap();
        assert_eq!(routes.len(), ROUTES.len());
        assert!(routes.iter().all(|route| route["summary"].as_str().is_some()));
    }

    #[test]
    fn a_full_disk_makes_it_not_ready_but_alive() {
        assert!(ready(Health::Ready).is_ok() && alive(Health::Ready).is_ok());
        assert!(ready(Health::DiskFull).is_err() && alive(Health::DiskFull).is_ok());
        assert!(ready(Health::Poisoned).is_err() && alive(Health::Poisoned).is_err());
    }

    #[tokio::test]
    async fn a_stopping_server_is_not_ready() {
        let mut server = Server::start().await;
        server.trigger.advance();
        assert_eq!(server.get("/readyz").await.json()["type"], "/problems/not-ready");
    }

    #[tokio::test]
    async fn metrics_show_every_queue() {
        let mut server = Server::start().await;
        let answer = server.get("/metrics").await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        for queue in ["formulas", "seals", "releases", "hooks"] {
            assert!(text.contains(&format!("queue=\"{queue}\",state=\"dead\"")), "{text}");
        }
    }

    #[tokio::test]
    async fn each_problem_has_its_page() {
        let mut server = Server::start().await;
        assert_eq!(server.get("/problems").await.status, 200);
        let page = server.get("/problems/duplicate-formula").await;
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(server.get("/problems/none").await.json()["type"], "/problems/unknown-problem");
        assert_eq!(server.get("/version").await.json()["name"], "sillage");
    }
}
