//! Event subscriptions: none, for there are no products here whose events a queue could take. A list of none
//! ends at once for clients that ask on until a page is empty.

use axum::response::Response;

use crate::http::cloudflare::Allowed;
use crate::http::cloudflare::fault::Fault;
use crate::http::cloudflare::page::Page;
use crate::http::cloudflare::wire::success_page;

/// `GET /event_subscriptions/subscriptions`
pub async fn list(call: Allowed) -> Result<Response, Fault> {
    let (none, info) = Page::read(&call)?.cut(Vec::<()>::new());
    Ok(success_page(none, info))
}

/// `POST /event_subscriptions/subscriptions`
pub async fn create(_: Allowed) -> Result<Response, Fault> {
    Err(Fault::no_event_sources())
}

/// `GET`, `PATCH` and `DELETE /event_subscriptions/subscriptions/{subscription}`
pub async fn none(_: Allowed) -> Result<Response, Fault> {
    Err(Fault::no_object("event_subscriptions/subscriptions"))
}
