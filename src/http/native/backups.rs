//! Backups: made below the configured directory and nowhere else, proven, listed. One is under way at a
//! time. Who hangs up ends none: it goes on and shows up in the list.

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use axum::response::Response;

use crate::engine::{Backup, list_backups, verify_backup};
use crate::http::backup_desk::{BackupWork, Taken};
use crate::http::call::Call;
use crate::http::native::fault::{backup_failed, limit_reached};
use crate::http::native::wire::{BackupCreate, BackupList, BackupView, UnderWayView, VerifiedView};
use crate::http::native::{answer, read_json};
use crate::http::problem::Problem;

/// Longest name of a backup.
const NAME_CHARS_MAX: usize = 128;

/// `POST /backups`
pub async fn create(mut call: Call) -> Result<Response, Problem> {
    let request: BackupCreate = read_json(&mut call).await?;
    let root = root(&call)?;
    let name = name_in(&root, &request.directory).ok_or_else(|| bad_directory(&root))?.to_owned();
    let taken = begin(&call, BackupWork::Make, &name)?;
    let (front, dir) = (call.front.clone(), root.join(&name));
    let task = tokio::spawn(async move {
        let names = list(root).await?;
        if names.contains(&name) {
            let detail = format!("there is a backup `{name}`, or what was left of one");
            return Err(Problem::new(StatusCode::CONFLICT, "backup_exists", detail).at("/directory"));
        }
        let max = front.config.backup.count_max;
        if names.len() >= max {
            return Err(limit_reached(format!("the limit of {max} backups is reached: remove one")));
        }
        let report = front.engine.backup(Backup { dir, progress: taken.progress.clone() }).await?;
        tracing::info!(name, bytes = report.files.bytes, linked = report.linked, "backup made");
        drop(taken);
        Ok(BackupView::new(&name, &report))
    });
    Ok(answer(StatusCode::CREATED, &done(task).await?))
}

/// `GET /backups`
pub async fn list_all(call: Call) -> Result<Response, Problem> {
    let root = root(&call)?;
    let under_way = call.front.backups.under_way();
    let under_way = under_way.as_ref().map(UnderWayView::from);
    let directory = root.display().to_string();
    let view = BackupList { directory, backups: list(root).await?, under_way };
    Ok(answer(StatusCode::OK, &view))
}

/// `POST /backups/{backup}/verify`
pub async fn verify(call: Call) -> Result<Response, Problem> {
    let root = root(&call)?;
    let name = call.param("backup").to_owned();
    if !is_name(&name) {
        return Err(no_such_backup());
    }
    let taken = begin(&call, BackupWork::Verify, &name)?;
    let dir = root.join(&name);
    let task = tokio::task::spawn_blocking(move || {
        let files = verify_backup(&dir, &taken.progress)?;
        Ok(VerifiedView::new(&name, &dir, &files))
    });
    Ok(answer(StatusCode::OK, &done(task).await?))
}

async fn done<T>(task: tokio::task::JoinHandle<Result<T, Problem>>) -> Result<T, Problem> {
    task.await.unwrap_or_else(|error| Err(backup_failed(&error)))
}

async fn list(root: PathBuf) -> Result<Vec<String>, Problem> {
    done(tokio::task::spawn_blocking(move || list_backups(&root).map_err(|error| backup_failed(&error)))).await
}

/// The directory that backups go below, absolute.
fn root(call: &Call) -> Result<PathBuf, Problem> {
    let off = || {
        let detail = "this server makes no backups over HTTP: `backup.directory` is \"off\"";
        Problem::new(StatusCode::FORBIDDEN, "backups_off", detail)
    };
    let root = call.front.config.backup_directory().ok_or_else(off)?;
    std::path::absolute(&root).map_err(|error| backup_failed(&error))
}

fn begin(call: &Call, work: BackupWork, name: &str) -> Result<Taken, Problem> {
    call.front.backups.begin(work, name).ok_or_else(|| {
        let detail = "another backup is being made or proven";
        Problem::new(StatusCode::CONFLICT, "backup_under_way", detail).retry_after(5)
    })
}

/// The name of a backup that a client means: the name itself, or its path.
fn name_in<'a>(root: &Path, asked: &'a str) -> Option<&'a str> {
    let path = Path::new(asked);
    let name = if path.is_absolute() && path.parent() == Some(root) { path.file_name()?.to_str()? } else { asked };
    is_name(name).then_some(name)
}

/// One plain component: no separator, no hidden file, no way up.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.len() <= NAME_CHARS_MAX
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

fn bad_directory(root: &Path) -> Problem {
    let detail = format!("a name of letters, digits, `.`, `_` and `-`, or its path directly below {}", root.display());
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_bounds", detail).at("/directory")
}

fn no_such_backup() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_backup", "no such backup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_lies_directly_below_the_configured_directory_and_nowhere_else() {
        let root = Path::new("/srv/backups");
        assert_eq!(name_in(root, "monday-1.2_x"), Some("monday-1.2_x"));
        assert_eq!(name_in(root, "/srv/backups/monday"), Some("monday"));
        assert_eq!(name_in(root, "/srv/backups/monday/"), Some("monday"));
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/x",
            "/srv/backups",
            "/srv/backups/..",
            "/srv/backups/a/b",
            "/srv/backups/../x",
            "/srv/backups/.x",
            ".hidden",
            "-o",
            "a b",
            "a\0",
            "a\u{e9}",
            "%2e%2e",
            "a\\b",
            &long,
        ] {
            assert_eq!(name_in(root, bad), None, "{bad}");
        }
    }
}
