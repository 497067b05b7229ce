//! The routes under `/hooks`.

use hyper::Method;

use crate::engine::Work;
use crate::http::auth::Scope;
use crate::http::routes::{BodyKind, Endpoint, Produces, Route};
use crate::limits::HOOK_BODY_BYTES_MAX;

pub(super) const CREATE: Route = Route {
    method: Method::POST,
    path: "/hooks",
    scope: Some(Scope::Admin),
    label: "hook_create",
    summary: "Subscribe a URL to events",
    body: BodyKind::Json(HOOK_BODY_BYTES_MAX),
    query: &[],
    produces: Produces::Json,
    work: Some(Work::Intake),
    endpoint: Endpoint::HookCreate,
};

pub(super) const LIST: Route = Route {
    method: Method::GET,
    path: "/hooks",
    scope: Some(Scope::Admin),
    label: "hooks_list",
    summary: "All hooks, and the events that there are",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::HooksList,
};

pub(super) const OWN_SECRET: Route = Route {
    method: Method::GET,
    path: "/hooks/own-secret",
    scope: Some(Scope::Admin),
    label: "hook_own_secret",
    summary: "What answers to a webhook_url are signed with",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::HookOwnSecret,
};

pub(super) const DELIVERIES: Route = Route {
    method: Method::GET,
    path: "/hooks/deliveries",
    scope: Some(Scope::Admin),
    label: "hook_deliveries",
    summary: "What was delivered to hooks, waits to be, or has failed",
    body: BodyKind::None,
    query: &["hook", "state", "limit", "after"],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::HookDeliveries,
};

pub(super) const DELIVERY: Route = Route {
    method: Method::GET,
    path: "/hooks/deliveries/{id}",
    scope: Some(Scope::Admin),
    label: "hook_delivery",
    summary: "One delivery to a hook",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::HookDelivery,
};

pub(super) const REDELIVER: Route = Route {
    method: Method::POST,
    path: "/hooks/deliveries/{id}/redeliver",
    scope: Some(Scope::Admin),
    label: "hook_redeliver",
    summary: "Make a delivery once more, under the same webhook-id",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: Some(Work::Settle),
    endpoint: Endpoint::HookRedeliver,
};

pub(super) const GET: Route = Route {
    method: Method::GET,
    path: "/hooks/{id}",
    scope: Some(Scope::Admin),
    label: "hook_get",
    summary: "One hook",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: None,
    endpoint: Endpoint::HookGet,
};

pub(super) const DELETE: Route = Route {
    method: Method::DELETE,
    path: "/hooks/{id}",
    scope: Some(Scope::Admin),
    label: "hook_delete",
    summary: "Call a hook no more",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: Some(Work::Settle),
    endpoint: Endpoint::HookDelete,
};

pub(super) const PING: Route = Route {
    method: Method::POST,
    path: "/hooks/{id}/ping",
    scope: Some(Scope::Admin),
    label: "hook_ping",
    summary: "Call a hook now, to see whether it can be reached",
    body: BodyKind::None,
    query: &[],
    produces: Produces::Json,
    work: Some(Work::Settle),
    endpoint: Endpoint::HookPing,
};

pub(super) const SECRET: Route = Route {
    method: Method::POST,
    path: "/hooks/{id}/secret",
    scope: Some(Scope::Admin),
    label: "hook_secret",
    summary: "Give a hook another secret; for a while both are used",
    body: BodyKind::OptionalJson(HOOK_BODY_BYTES_MAX),
    query: &[],
    produces: Produces::Json,
    work: Some(Work::Settle),
    endpoint: Endpoint::HookSecret,
};
