//! Errors of the engine as problems. Every match is exhaustive: a new case must be given its words here.

use axum::http::StatusCode;

use crate::access::Denied;
use crate::chaos::ChaosError;
use crate::engine::{
    AccessError, BackupError, CreateGroupError, CreateTopicError, LookupError, PeekError, PublishError, PullError,
    RedriveError, Refusal, SettleError, UpdateGroupError, UpdateTopicError, VerifyError,
};
use crate::http::edge::EdgeError;
use crate::http::problem::Problem;
use crate::model::SettingsError;

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(1),
            Refusal::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail).retry_after(2),
            Refusal::DiskFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", detail).retry_after(10),
            Refusal::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "chaos", detail).retry_after(1),
            Refusal::Throttled => Self::new(StatusCode::TOO_MANY_REQUESTS, "chaos", detail).retry_after(1),
        }
    }
}

impl From<LookupError> for Problem {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NoSuchTopic => no_such_topic(),
            LookupError::NoSuchGroup => Self::new(StatusCode::NOT_FOUND, "no_such_group", "no such group"),
            LookupError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", error.to_string()).at(error.field)
    }
}

impl From<CreateTopicError> for Problem {
    fn from(error: CreateTopicError) -> Self {
        let detail = error.to_string();
        match error {
            CreateTopicError::Exists(_) => Self::new(StatusCode::CONFLICT, "topic_exists", detail),
            CreateTopicError::Settings(error) => error.into(),
            CreateTopicError::TooMany { .. } => limit_reached(detail),
            CreateTopicError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<UpdateTopicError> for Problem {
    fn from(error: UpdateTopicError) -> Self {
        let detail = error.to_string();
        match error {
            UpdateTopicError::NoSuchTopic => no_such_topic(),
            UpdateTopicError::NameTaken(_) => Self::new(StatusCode::CONFLICT, "topic_exists", detail),
            UpdateTopicError::Settings(error) => error.into(),
            UpdateTopicError::InUse { field, .. } => Self::new(StatusCode::CONFLICT, "in_use", detail).at(field),
            UpdateTopicError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<CreateGroupError> for Problem {
    fn from(error: CreateGroupError) -> Self {
        let detail = error.to_string();
        match error {
            CreateGroupError::NoSuchTopic => no_such_topic(),
            CreateGroupError::Exists(_) => Self::new(StatusCode::CONFLICT, "group_exists", detail),
            CreateGroupError::Settings(error) => error.into(),
            CreateGroupError::TooMany { .. } => limit_reached(detail),
            CreateGroupError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<UpdateGroupError> for Problem {
    fn from(error: UpdateGroupError) -> Self {
        match error {
            UpdateGroupError::Lookup(error) => error.into(),
            UpdateGroupError::Settings(error) => error.into(),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        let out_of_bounds = |detail| Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", detail);
        let at = |index: usize| format!("/messages/{index}");
        match error {
            PublishError::NoSuchTopic => no_such_topic(),
            PublishError::BatchCount { .. } => out_of_bounds(detail).at("/messages"),
            PublishError::BodyTooLarge { index, .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail).at(at(index))
            }
            PublishError::BatchTooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail),
            PublishError::Properties { index, .. } => out_of_bounds(detail).at(at(index) + "/properties"),
            PublishError::DelayTooLong { index, .. } => out_of_bounds(detail).at(at(index) + "/delay_ms"),
            PublishError::IdempotencyConflict { index } => {
                Self::new(StatusCode::CONFLICT, "idempotency_conflict", detail).at(at(index) + "/idempotency_key")
            }
            PublishError::TableFull { .. } => limit_reached(detail),
            PublishError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<PullError> for Problem {
    fn from(error: PullError) -> Self {
        let detail = error.to_string();
        match error {
            PullError::Lookup(error) => error.into(),
            PullError::Paused => Self::new(StatusCode::CONFLICT, "paused", detail),
            PullError::Bounds(error) => error.into(),
            PullError::TooManyWaiting { .. } => too_many_waiting(detail),
            PullError::Unreadable(reason) => unreadable(&reason),
        }
    }
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Lookup(error) => error.into(),
            SettleError::Bounds(error) => error.into(),
        }
    }
}

impl From<PeekError> for Problem {
    fn from(error: PeekError) -> Self {
        match error {
            PeekError::Lookup(error) => error.into(),
            PeekError::Bounds(error) => error.into(),
            PeekError::Unreadable(reason) => unreadable(&reason),
        }
    }
}

impl From<RedriveError> for Problem {
    fn from(error: RedriveError) -> Self {
        match error {
            RedriveError::Lookup(error) => error.into(),
            RedriveError::Bounds(error) => error.into(),
        }
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let detail = error.to_string();
        match error {
            AccessError::Exists(_) => Self::new(StatusCode::CONFLICT, "credential_exists", detail),
            AccessError::NoSuchCredential(_) => Self::new(StatusCode::NOT_FOUND, "no_such_credential", detail),
            AccessError::TooMany { .. } => limit_reached(detail),
            AccessError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Refused(refusal) => refusal.into(),
            BackupError::NotEmpty(_) => Self::new(StatusCode::CONFLICT, "backup_exists", error.to_string()),
            BackupError::NoFiles => Self::new(StatusCode::NOT_IMPLEMENTED, "no_files", error.to_string()),
            BackupError::Io { .. } => backup_failed(&error),
        }
    }
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::NoBackup(_) => Self::new(StatusCode::NOT_FOUND, "no_such_backup", "no such backup"),
            VerifyError::Format { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_format", error.to_string())
            }
            VerifyError::Damaged { .. } | VerifyError::Missing(_) | VerifyError::Stray(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_damaged", error.to_string())
            }
            VerifyError::Log(_) | VerifyError::Io { .. } => backup_failed(&error),
        }
    }
}

/// A backup could not be made or read. The operator who asked is told why.
pub fn backup_failed(error: &dyn std::error::Error) -> Problem {
    let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    tracing::error!("a backup failed: {error}{why}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "backup_failed", format!("{error}{why}"))
}

impl From<ChaosError> for Problem {
    fn from(error: ChaosError) -> Self {
        let detail = error.to_string();
        match error {
            ChaosError::Settings(error) => error.into(),
            ChaosError::TooMany { .. } => limit_reached(detail),
            ChaosError::NoRestart => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", detail).at("restart_every")
            }
            ChaosError::Io { .. } => {
                tracing::error!(%error, "the faults of a topic were not kept");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the faults were not kept")
            }
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        EdgeError::Denied(denied).into()
    }
}

fn no_such_topic() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_topic", "no such topic")
}

/// The server holds as many as it may.
pub fn limit_reached(detail: String) -> Problem {
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, "limit_reached", detail)
}

/// As many pulls wait as may.
pub fn too_many_waiting(detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_waiting", detail).retry_after(1)
}

/// The client learns that a stored message is damaged; which file and byte is the operator's business.
fn unreadable(reason: &str) -> Problem {
    tracing::error!(reason, "a stored message could not be read");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", "a stored message could not be read")
}
