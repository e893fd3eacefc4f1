//! The table of the native API and of the operators' paths: method, path, right, shapes, handler.
//! Router, OpenAPI document and the authorisation test are made from it, so they cannot differ.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;

use crate::access::Right;
use crate::http::call::Call;
use crate::http::native::openapi::{Shape, shape};
use crate::http::native::{
    backups, chaos, consume, credentials, groups, health, metrics, openapi, publish, topics, wire,
};
use crate::http::problem::Problem;
use crate::http::route::{ADMIN, CONSUME, Later, PUBLISH, SEE};
use crate::http::state::Front;

/// Where the native API begins.
pub const NATIVE_PREFIX: &str = "/api/windlass/v1";

macro_rules! v1 {
    ($path:literal) => {
        concat!("/api/windlass/v1", $path)
    };
}

/// What a route does, and for whom.
#[derive(Clone, Copy)]
pub enum Run {
    /// Anybody may ask.
    Public(fn(Arc<Front>) -> Later<Response>),
    /// Whoever has the right may ask.
    Known {
        /// What it takes.
        right: Right,
        /// To what.
        reach: Reach,
        /// The handler.
        run: fn(Call) -> Later<Result<Response, Problem>>,
    },
}

/// What a route works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The topic in its path.
    PathTopic,
    /// The whole account.
    Account,
    /// Topics that its handler finds out: it asks for each, or leaves out those out of reach.
    Unnamed,
}

/// What a route takes as its body.
#[derive(Clone, Copy)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// Any bytes.
    Bytes,
    /// JSON of this shape.
    Json(Shape),
}

/// What a route answers with when all is well.
#[derive(Clone, Copy)]
pub enum Gives {
    /// Nothing.
    Nothing,
    /// Text.
    Text,
    /// Lines of JSON.
    JsonLines,
    /// JSON of any shape.
    AnyJson,
    /// JSON of this shape.
    Json(Shape),
}

/// One route.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with `{topic}`, `{group}`, `{id}`.
    pub path: &'static str,
    /// Its name in the document.
    pub id: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Parameters of its query.
    pub query: &'static [&'static str],
    /// Its body.
    pub takes: Takes,
    /// Its good answers: status and shape.
    pub gives: &'static [(u16, Gives)],
    /// Its handler.
    pub run: Run,
}

impl Route {
    /// What it takes to ask; `None`: anybody may.
    pub fn right(&self) -> Option<Right> {
        match self.run {
            Run::Public(_) => None,
            Run::Known { right, .. } => Some(right),
        }
    }
}

macro_rules! known {
    ($right:expr, $reach:ident, $handler:path) => {
        Run::Known { right: $right, reach: Reach::$reach, run: |call| Box::pin($handler(call)) }
    };
}

macro_rules! routes {
    ($($method:ident $path:expr, $id:literal, $summary:literal, query $query:expr, takes $takes:expr,
       gives [$($status:literal $gives:expr),+], $run:expr;)+) => {
        /// Every route there is.
        pub static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            id: $id,
            summary: $summary,
            query: $query,
            takes: $takes,
            gives: &[$(($status, $gives)),+],
            run: $run,
        }),+];
    };
}

/// JSON of the shape of a wire type.
macro_rules! takes {
    ($shape:ty) => {
        Takes::Json(shape::<$shape>)
    };
}

/// JSON of the shape of a wire type.
macro_rules! gives {
    ($shape:ty) => {
        Gives::Json(shape::<$shape>)
    };
}

use Takes::{Bytes, Nothing};

routes! {
    POST v1!("/topics"), "createTopic", "Makes a topic.",
        query &[], takes takes!(wire::TopicCreate), gives [201 gives!(wire::TopicView)],
        known!(ADMIN, Unnamed, topics::create);
    GET v1!("/topics"), "listTopics", "Lists the account's topics by name, those within reach of the credential.",
        query &["limit", "after"], takes Nothing, gives [200 gives!(wire::TopicList)],
        known!(SEE, Unnamed, topics::list);
    GET v1!("/topics/{topic}"), "getTopic", "Reads a topic.",
        query &[], takes Nothing, gives [200 gives!(wire::TopicView)],
        known!(SEE, PathTopic, topics::get);
    PATCH v1!("/topics/{topic}"), "updateTopic", "Changes a topic: all of the change or nothing.",
        query &[], takes takes!(wire::TopicUpdate), gives [200 gives!(wire::TopicView)],
        known!(ADMIN, PathTopic, topics::update);
    DELETE v1!("/topics/{topic}"), "deleteTopic", "Deletes a topic with its messages and groups.",
        query &[], takes Nothing, gives [204 Gives::Nothing],
        known!(ADMIN, PathTopic, topics::delete);
    GET v1!("/topics/{topic}/counts"), "countTopic", "Counts the messages a topic keeps.",
        query &[], takes Nothing, gives [200 gives!(wire::CountsView)],
        known!(SEE, PathTopic, topics::counts);
    POST v1!("/topics/{topic}/purge"), "purgeTopic", "Gives up every message, delayed and leased ones included.",
        query &[], takes Nothing, gives [200 gives!(wire::PurgeView)],
        known!(ADMIN, PathTopic, topics::purge);
    POST v1!("/topics/{topic}/discard"), "discardMessages", "Gives up single messages, for every group.",
        query &[], takes takes!(wire::DiscardRequest), gives [200 gives!(wire::DiscardView)],
        known!(ADMIN, PathTopic, topics::discard);
    POST v1!("/topics/{topic}/redrive"), "redrive", "Sends dead letters back to the topics they came from.",
        query &[], takes takes!(wire::RedriveRequest), gives [200 gives!(wire::RedriveView)],
        known!(ADMIN, PathTopic, topics::redrive);

    PUT v1!("/topics/{topic}/chaos"), "setFaults",
        "Gives a topic faults in the place of those it has; only in a server that was started with --chaos.",
        query &[], takes takes!(wire::FaultsWire), gives [200 gives!(wire::ChaosView)],
        known!(ADMIN, PathTopic, chaos::set);
    GET v1!("/topics/{topic}/chaos"), "getFaults", "Shows the faults of a topic, and how often each was dealt.",
        query &[], takes Nothing, gives [200 gives!(wire::ChaosView)],
        known!(ADMIN, PathTopic, chaos::get);
    DELETE v1!("/topics/{topic}/chaos"), "clearFaults", "Takes all faults from a topic.",
        query &[], takes Nothing, gives [204 Gives::Nothing],
        known!(ADMIN, PathTopic, chaos::clear);
    GET v1!("/topics/{topic}/history"), "topicHistory",
        "What was done with the messages of a topic, a line of JSON each; only with --chaos.",
        query &[], takes Nothing, gives [200 Gives::JsonLines],
        known!(ADMIN, PathTopic, chaos::topic_history);
    GET v1!("/history"), "history",
        "What was done with the messages of the account, a line of JSON each; only with --chaos.",
        query &[], takes Nothing, gives [200 Gives::JsonLines],
        known!(ADMIN, Account, chaos::history);

    POST v1!("/topics/{topic}/messages"), "publish",
        "Publishes the body of the request as one message. Labels may come as headers (windlass-key, windlass-tag, windlass-delay-ms, windlass-property-NAME, idempotency-key) or in the query.",
        query &["key", "tag", "delay_ms", "idempotency_key", "property.NAME"], takes Bytes,
        gives [201 gives!(wire::PublishedView), 200 gives!(wire::PublishedView)],
        known!(PUBLISH, PathTopic, publish::publish);
    POST v1!("/topics/{topic}/messages/batch"), "publishBatch", "Publishes messages at adjoining offsets: all or none.",
        query &[], takes takes!(wire::Batch<'static>),
        gives [201 gives!(wire::PublishedViews), 200 gives!(wire::PublishedViews)],
        known!(PUBLISH, PathTopic, publish::publish_batch);
    GET v1!("/topics/{topic}/messages"), "peek", "Looks at messages without touching them.",
        query &["group", "state", "id", "tag", "key", "property.NAME", "since_ms", "until_ms", "from", "limit", "encoding"],
        takes Nothing, gives [200 gives!(wire::PeekView)],
        known!(CONSUME, PathTopic, consume::peek);

    POST v1!("/topics/{topic}/groups"), "createGroup", "Makes a group.",
        query &[], takes takes!(wire::GroupCreate), gives [201 gives!(wire::GroupView)],
        known!(ADMIN, PathTopic, groups::create);
    GET v1!("/topics/{topic}/groups"), "listGroups", "Lists the groups of a topic by name.",
        query &[], takes Nothing, gives [200 gives!(wire::GroupList)],
        known!(SEE, PathTopic, groups::list);
    GET v1!("/topics/{topic}/groups/{group}"), "getGroup", "Reads a group.",
        query &[], takes Nothing, gives [200 gives!(wire::GroupView)],
        known!(SEE, PathTopic, groups::get);
    PATCH v1!("/topics/{topic}/groups/{group}"), "updateGroup", "Changes a group: all of the change or nothing.",
        query &[], takes takes!(wire::GroupUpdate), gives [200 gives!(wire::GroupView)],
        known!(ADMIN, PathTopic, groups::update);
    DELETE v1!("/topics/{topic}/groups/{group}"), "deleteGroup", "Deletes a group with its progress.",
        query &[], takes Nothing, gives [204 Gives::Nothing],
        known!(ADMIN, PathTopic, groups::delete);
    GET v1!("/topics/{topic}/groups/{group}/counts"), "countGroup", "Counts the messages of a group.",
        query &[], takes Nothing, gives [200 gives!(wire::CountsView)],
        known!(SEE, PathTopic, groups::counts);
    POST v1!("/topics/{topic}/groups/{group}/seek"), "seek", "Moves a group's cursor, or says what that would do.",
        query &[], takes takes!(wire::SeekRequest), gives [200 gives!(wire::SeekView)],
        known!(ADMIN, PathTopic, groups::seek);

    POST v1!("/topics/{topic}/groups/{group}/pull"), "pull", "Takes messages under a lease each; may wait for them.",
        query &[], takes takes!(wire::PullRequest), gives [200 gives!(wire::PulledView)],
        known!(CONSUME, PathTopic, consume::pull);
    POST v1!("/topics/{topic}/groups/{group}/ack"), "ack", "Done: these messages are never delivered again.",
        query &[], takes takes!(wire::SettleRequest), gives [200 gives!(wire::OutcomesView)],
        known!(CONSUME, PathTopic, consume::ack);
    POST v1!("/topics/{topic}/groups/{group}/nack"), "nack", "Gives messages back, to be delivered again.",
        query &[], takes takes!(wire::NackRequest), gives [200 gives!(wire::OutcomesView)],
        known!(CONSUME, PathTopic, consume::nack);
    POST v1!("/topics/{topic}/groups/{group}/extend"), "extend", "Holds messages longer, from now on.",
        query &[], takes takes!(wire::ExtendRequest), gives [200 gives!(wire::OutcomesView)],
        known!(CONSUME, PathTopic, consume::extend);
    POST v1!("/topics/{topic}/groups/{group}/bury"), "bury", "Gives messages up, to the dead letters.",
        query &[], takes takes!(wire::BuryRequest), gives [200 gives!(wire::OutcomesView)],
        known!(CONSUME, PathTopic, consume::bury);

    POST v1!("/tokens"), "createCredential", "Makes a token or an access key. Its secret is shown this once.",
        query &[], takes takes!(wire::AccessCreate), gives [201 gives!(wire::AccessMade)],
        known!(ADMIN, Account, credentials::create);
    GET v1!("/tokens"), "listCredentials", "Lists the account's credentials, without their secrets.",
        query &[], takes Nothing, gives [200 gives!(wire::AccessList)],
        known!(ADMIN, Account, credentials::list);
    DELETE v1!("/tokens/{id}"), "revokeCredential", "Revokes a credential, at once.",
        query &[], takes Nothing, gives [204 Gives::Nothing],
        known!(ADMIN, Account, credentials::revoke);
    POST v1!("/backups"), "createBackup",
        "Puts a backup of the whole server into a new directory below the configured one, on the server's machine.",
        query &[], takes takes!(wire::BackupCreate), gives [201 gives!(wire::BackupView)],
        known!(ADMIN, Account, backups::create);
    GET v1!("/backups"), "listBackups", "Lists the directory of backups, and tells how far the one under way is.",
        query &[], takes Nothing, gives [200 gives!(wire::BackupList)],
        known!(ADMIN, Account, backups::list_all);
    POST v1!("/backups/{backup}/verify"), "verifyBackup", "Reads a backup through and proves it whole.",
        query &[], takes Nothing, gives [200 gives!(wire::VerifiedView)],
        known!(ADMIN, Account, backups::verify);
    GET v1!("/status"), "status", "Totals and health of the server, and of the topics within reach.",
        query &[], takes Nothing, gives [200 gives!(health::StatusView)],
        known!(SEE, Unnamed, health::status);

    GET "/healthz", "healthz", "The process is up.",
        query &[], takes Nothing, gives [200 Gives::Text], Run::Public(|_| Box::pin(health::healthz()));
    GET "/readyz", "readyz", "The server has recovered and takes requests.",
        query &[], takes Nothing, gives [200 gives!(health::ReadyView)],
        Run::Public(|front| Box::pin(health::readyz(front)));
    GET "/metrics", "metrics", "Counters in the text format of Prometheus, for the topics within reach.",
        query &[], takes Nothing, gives [200 Gives::Text],
        known!(SEE, Unnamed, metrics::metrics);
    GET "/openapi.json", "openapi", "This document.",
        query &[], takes Nothing, gives [200 Gives::AnyJson],
        Run::Public(|_| Box::pin(openapi::serve()));
}
