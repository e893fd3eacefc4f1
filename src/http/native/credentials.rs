//! Credentials: made, listed, revoked. Nobody gives more than they have.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;

use crate::access::{Denied, Grant, Principal, Secret, make_access_key, make_token};
use crate::engine::AccessError;
use crate::http::call::Call;
use crate::http::native::wire::{AccessCreate, AccessKindWire, AccessList, AccessMade, AccessView, bad_name};
use crate::http::native::{answer, empty_answer, read_json};
use crate::http::problem::Problem;
use crate::model::{AccessId, AccessRecord, AccountName, Permissions, TopicPattern};

/// Ids are random: a second draw is already beyond belief.
const DRAWS_MAX: u32 = 3;

/// `POST /tokens`
pub async fn create(mut call: Call) -> Result<Response, Problem> {
    let request: AccessCreate = read_json(&mut call).await?;
    let grant = read_grant(&call, &request)?;
    let mut draw = 1;
    loop {
        let (record, secret) = make(&call, request.kind, grant.clone());
        let credential = AccessView::from(&record);
        let id = record.id.clone();
        match call.front.engine.put_access(record).await {
            Ok(()) => {
                tracing::info!(account = %grant.account, %id, by = %call.principal.id, "credential made");
                let made = AccessMade { credential, secret: secret.reveal().to_owned() };
                return Ok(answer(StatusCode::CREATED, &made));
            }
            Err(AccessError::Exists(_)) if draw < DRAWS_MAX => draw += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn make(call: &Call, kind: AccessKindWire, grant: Grant) -> (AccessRecord, Secret) {
    let clock = call.front.clock.as_ref();
    match kind {
        AccessKindWire::Token => {
            let made = make_token(clock, grant);
            (made.record, made.token)
        }
        AccessKindWire::AccessKey => {
            let made = make_access_key(clock, &call.front.sealing, grant);
            (made.record, made.secret)
        }
    }
}

fn read_grant(call: &Call, request: &AccessCreate) -> Result<Grant, Problem> {
    let maker = &call.principal;
    let account = match &request.account {
        Some(name) => AccountName::parse(name).map_err(bad_name("/account"))?,
        None => maker.account.clone(),
    };
    if account != maker.account && !maker.is_open() {
        return Err(Denied::Permission.into());
    }
    let topics = match &request.topics {
        Some(pattern) => TopicPattern::parse(pattern).map_err(bad_name("/topics"))?,
        None => TopicPattern::all(),
    };
    let permissions = request.permissions();
    if !within(permissions, maker) {
        return Err(Denied::Permission.into());
    }
    if permissions == Permissions::default() {
        let detail = "a credential allows at least one of publish, consume and admin";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", detail).at("/permissions"));
    }
    if maker.is_open() && !(permissions.admin && topics.as_str() == "*") {
        let detail = "the first credential must allow admin on every topic: nobody could make another";
        return Err(Problem::new(StatusCode::CONFLICT, "first_credential", detail));
    }
    let expires_at = request.expires_in_ms.map(|span| call.front.clock.wall().after(Duration::from_millis(span)));
    Ok(Grant { account, permissions, topics, expires_at })
}

/// Whether `asked` is no more than the maker has. (That it reaches every topic was asked before.)
fn within(asked: Permissions, maker: &Principal) -> bool {
    let Permissions { publish, consume, admin } = maker.permissions;
    (publish || !asked.publish) && (consume || !asked.consume) && (admin || !asked.admin)
}

/// `GET /tokens`
pub async fn list(call: Call) -> Result<Response, Problem> {
    let table = call.front.engine.access();
    let own = table.records.values().filter(|record| record.account == call.principal.account);
    Ok(answer(StatusCode::OK, &AccessList { credentials: own.map(AccessView::from).collect() }))
}

/// `DELETE /tokens/{id}`
pub async fn revoke(call: Call) -> Result<Response, Problem> {
    let id = AccessId(call.param("id").to_owned());
    call.front.engine.revoke_access(call.principal.account.clone(), id.clone()).await?;
    tracing::info!(account = %call.principal.account, %id, by = %call.principal.id, "credential revoked");
    Ok(empty_answer())
}
