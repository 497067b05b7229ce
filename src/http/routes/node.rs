//! The routes of a partner node: served only where the operator wants this server to play one.

use hyper::Method;

use super::{BodyKind, Endpoint, Produces, Route};
use crate::engine::Work;
use crate::http::auth::Scope;
use crate::limits::GROUP_BODY_BYTES_MAX;

/// The table.
pub static NODE_ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        path: "/v1/group/",
        scope: Some(Scope::Submit),
        label: "node_group_create",
        summary: "Create a group on this server, as one node of a cluster",
        body: BodyKind::Json(GROUP_BODY_BYTES_MAX),
        query: &[],
        produces: Produces::Json,
        work: Some(Work::Intake),
        endpoint: Endpoint::NodeGroupCreate,
    },
    Route {
        method: Method::DELETE,
        path: "/v1/group/",
        scope: Some(Scope::Submit),
        label: "node_group_delete",
        summary: "Delete a group from this server, as one node of a cluster",
        body: BodyKind::Json(GROUP_BODY_BYTES_MAX),
        query: &[],
        produces: Produces::Json,
        work: Some(Work::Settle),
        endpoint: Endpoint::NodeGroupDelete,
    },
    Route {
        method: Method::GET,
        path: "/v1/group/{id}/",
        scope: Some(Scope::Read),
        label: "node_group_get",
        summary: "Whether a group is on this server",
        body: BodyKind::None,
        query: &[],
        produces: Produces::Json,
        work: None,
        endpoint: Endpoint::NodeGroupGet,
    },
    Route {
        method: Method::GET,
        path: "/v1/group/",
        scope: Some(Scope::Read),
        label: "node_groups_list",
        summary: "The groups on this server, page by page",
        body: BodyKind::None,
        query: &["limit", "after"],
        produces: Produces::Json,
        work: None,
        endpoint: Endpoint::NodeGroupsList,
    },
];
