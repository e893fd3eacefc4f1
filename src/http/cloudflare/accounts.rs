//! Who asks: clients that were given no account id look for it here. A credential opens one account.

use axum::response::Response;

use crate::access::account_hex;
use crate::http::cloudflare::Allowed;
use crate::http::cloudflare::fault::Fault;
use crate::http::cloudflare::page::Page;
use crate::http::cloudflare::wire::{AccountView, MembershipView, TokenView, UserView, success, success_page};
use crate::http::time::rfc3339;
use crate::model::Permission;

fn account_view(call: &Allowed) -> AccountView {
    let account = call.account();
    AccountView { id: account_hex(&account), name: account.to_string(), kind: "standard" }
}

/// `GET /accounts`
pub async fn list(call: Allowed) -> Result<Response, Fault> {
    let (accounts, info) = Page::read(&call)?.cut(vec![account_view(&call)]);
    Ok(success_page(accounts, info))
}

/// `GET /memberships`
pub async fn memberships(call: Allowed) -> Result<Response, Fault> {
    let held = |permission| call.call.principal.permissions.allows(permission);
    let roles = [(Permission::Publish, "publish"), (Permission::Consume, "consume"), (Permission::Admin, "admin")];
    let roles = roles.into_iter().filter(|(permission, _)| held(*permission)).map(|(_, role)| role).collect();
    let account = account_view(&call);
    let membership = MembershipView { id: account.id.clone(), account, status: "accepted", roles };
    let (memberships, info) = Page::read(&call)?.cut(vec![membership]);
    Ok(success_page(memberships, info))
}

/// `GET /user`
pub async fn user(call: Allowed) -> Result<Response, Fault> {
    Ok(success(UserView { id: call.call.principal.id.to_string(), email: None }))
}

/// `GET /user/tokens/verify`: one that is not good does not get here.
pub async fn verify(call: Allowed) -> Result<Response, Fault> {
    let id = &call.call.principal.id;
    let expires_at = call.call.front.engine.access().records.get(id).and_then(|record| record.expires_at);
    Ok(success(TokenView { id: id.to_string(), status: "active", expires_on: expires_at.map(rfc3339) }))
}
