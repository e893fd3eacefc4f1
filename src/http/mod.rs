//! The HTTP front: bytes to words of `model`, errors to the status and body of each dialect.
//!
//! A dialect is a module with a table of routes, handlers, `wire` (its shapes), `fault` (its errors, one exhaustive match for each
//! error of the engine), an envelope and an authenticator. To add one: that module, its name in `meters::Speech`, its
//! `Owner` and its paths in `owner_of`, `docs/dialects/<name>.md`, and the tests that `tests/http_cloudflare*.rs` are for
//! Cloudflare. `cloudflare` is the plainest to start from; what all share stands here beside it.

mod around;
mod auth;
mod backup_desk;
mod bounded;
mod call;
mod cloudflare;
mod cut;
mod edge;
mod jcq;
mod json;
mod meters;
mod native;
mod problem;
mod request_id;
mod route;
mod sequin;
mod state;
pub mod time;
mod whole;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::Response;

use crate::http::call::Authenticate;
use crate::http::edge::{EdgeError, Envelope};
use crate::http::meters::Speech;

pub use cloudflare::{ROUTES as CLOUDFLARE_ROUTES, Route as CloudflareRoute};
pub use cut::Cut;
pub use jcq::{DATA_ROUTES as JCQ_DATA_ROUTES, ROUTES as JCQ_ROUTES, Route as JcqRoute};
pub use native::{CredentialView, NATIVE_PREFIX, ROUTES as NATIVE_ROUTES, Route as NativeRoute};
pub use sequin::ROUTES as SEQUIN_ROUTES;
pub use state::{Exposure, Front};

/// Whose paths these are.
struct Owner {
    speech: Speech,
    envelope: Envelope,
    authenticate: Authenticate,
}

const NATIVE: Owner = Owner {
    speech: Speech::Native,
    envelope: problem::envelope,
    authenticate: Authenticate::Head(native::authenticate),
};
const CLOUDFLARE: Owner = Owner {
    speech: Speech::Cloudflare,
    envelope: cloudflare::envelope,
    authenticate: Authenticate::Head(cloudflare::authenticate),
};
const SEQUIN: Owner = Owner {
    speech: Speech::Sequin,
    envelope: sequin::envelope,
    authenticate: Authenticate::Head(sequin::authenticate),
};
const JCQ: Owner =
    Owner { speech: Speech::Jcq, envelope: jcq::envelope, authenticate: Authenticate::Whole(jcq::authenticate) };

/// The dialect that a path belongs to, known or unknown.
fn owner_of(path: &str) -> &'static Owner {
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let sequin = sequin::PREFIXES.into_iter().any(under) && !under(sequin::NOT_OURS);
    match () {
        () if under(cloudflare::PREFIX) => &CLOUDFLARE,
        () if sequin => &SEQUIN,
        () if jcq::PREFIXES.into_iter().any(under) => &JCQ,
        () => &NATIVE,
    }
}

/// All routes of all dialects.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .merge(native::router())
        .merge(cloudflare::router())
        .merge(sequin::router())
        .merge(jcq::router())
        .fallback(|state: State<Arc<Front>>, request: Request| refuse(state, request, EdgeError::NoRoute))
        .method_not_allowed_fallback(|state: State<Arc<Front>>, request: Request| {
            refuse(state, request, EdgeError::MethodNotAllowed)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&front), around::around))
        .with_state(front)
}

/// Refuses a request that meets no route, in the envelope of its path's owner. Strangers do not learn
/// which paths there are.
async fn refuse(State(front): State<Arc<Front>>, request: Request, error: EdgeError) -> Response {
    let owner = owner_of(request.uri().path());
    match call::prove(&front, request, owner.authenticate).await {
        Ok(_) => (owner.envelope)(&error),
        Err(unknown) => (owner.envelope)(&unknown),
    }
}
