//! What the tables of routes share, whatever the dialect.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use crate::access::Right;
use crate::http::state::Front;
use crate::model::Permission;

/// Any permission will do.
pub const SEE: Right = Right::See;
/// Takes the right to publish.
pub const PUBLISH: Right = Right::Do(Permission::Publish);
/// Takes the right to consume.
pub const CONSUME: Right = Right::Do(Permission::Consume);
/// Takes the right to administer.
pub const ADMIN: Right = Right::Do(Permission::Admin);

/// What a handler comes to, later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Adds a route of a table.
pub fn add<H, T>(router: Router<Arc<Front>>, method: &Method, path: &str, handler: H) -> Router<Arc<Front>>
where
    H: Handler<T, Arc<Front>>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
    router.route(path, on(filter, handler))
}
