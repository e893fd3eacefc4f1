//! Reads the sources and fails where a module names one that it must not know, or where a file breaks a
//! rule that a machine can see.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Lines of code and comments of one file, its unit tests not counted.
const FILE_LINES_MAX: usize = 650;

/// What each module may name, besides itself. Everything not listed is forbidden; the order is from the
/// bottom up. `access` and `config` know the engine for its limits and its credentials.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("planted", &[]),
    ("clock", &["model"]),
    ("codec", &[]),
    ("disk", &["model", "clock"]),
    ("log", &["model", "planted", "clock", "codec", "disk"]),
    ("index", &["model", "planted", "clock", "codec", "disk"]),
    ("engine", &["model", "planted", "clock", "codec", "disk", "log", "index"]),
    ("migrations", &["model", "clock", "codec", "disk", "log", "index", "engine"]),
    ("access", &["model", "clock", "engine"]),
    ("config", &["model", "engine"]),
    ("http", &["model", "clock", "engine", "access", "config"]),
    ("server", &["model", "clock", "engine", "access", "config", "http"]),
];

/// These put the parts together and may name every module.
const TOP: &[&str] = &["cli", "bench", "torture", "lib", "main"];

/// Dialects: none names another. (What they share lies beside them in `http`.)
const DIALECTS: &[&str] = &["native", "cloudflare", "sequin", "jcq"];

/// Words and the modules that may use them.
const WORDS: &[(&str, &[&str])] = &[
    ("axum", &["http", "server", "bench"]),
    ("sled::", &["index", "migrations"]),
    ("SystemTime::now", &["clock"]),
    ("SystemTime.elapsed", &["clock"]),
    ("UNIX_EPOCH.elapsed", &["clock"]),
    ("env::var", &["config", "cli", "planted"]),
    ("env::set_var", &[]),
    ("unimplemented!", &[]),
    ("todo!", &[]),
    ("dbg!", &[]),
    ("TODO", &[]),
    ("FIXME", &[]),
    ("#[ignore", &[]),
    // The bench measures a bare file beside the server: what the machine could do at best.
    ("sync_all", &["disk", "bench"]),
    ("fdatasync", &["disk"]),
    ("fsync(", &["disk"]),
    ("super::super", &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One source file.
struct Source {
    /// From `src` or `tests` on.
    path: String,
    text: String,
}

impl Source {
    /// The module directly below `src` that it belongs to; the migrations lie beside `src`.
    fn module(&self) -> &str {
        let first = self.path.strip_prefix("src/").unwrap_or(&self.path).split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The dialect it belongs to, if any.
    fn dialect(&self) -> Option<&'static str> {
        let rest = self.path.strip_prefix("src/http/")?;
        let first = rest.split('/').next().unwrap_or_default();
        let first = first.strip_suffix(".rs").unwrap_or(first);
        DIALECTS.iter().copied().find(|dialect| *dialect == first)
    }

    /// Its lines without those of its unit tests, which are last in a file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(number, line)| (number + 1, line)).take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }

    /// The code without its comments.
    fn statements(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().map(|(number, line)| (number, without_comment(line)))
    }
}

/// A line up to its comment. `//` in a string (an address) is none.
fn without_comment(line: &str) -> &str {
    let mut from = 0;
    while let Some(found) = line[from..].find("//") {
        let at = from + found;
        if !line[..at].ends_with(':') {
            return &line[..at];
        }
        from = at + 2;
    }
    line
}

fn sources(below: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(below)];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && !["node_modules", ".venv"].contains(&name.as_str()) {
                open.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("a source file is text");
                let path = path.strip_prefix(root()).expect("it is below the root").display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

/// All of the product.
fn product() -> Vec<Source> {
    sources("src").into_iter().chain(sources("migrations")).collect()
}

/// Names that follow `prefix` in a line.
fn names_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let name = |rest: &'a str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
    line.split(prefix).skip(1).map(name).collect()
}

#[track_caller]
fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Layer violations of one source.
fn strange_names(source: &Source) -> Vec<String> {
    let module = source.module();
    if TOP.contains(&module) {
        return Vec::new();
    }
    let Some((_, known)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{}: the module `{module}` has no layer yet: give it one in LAYERS", source.path)];
    };
    let mut broken = Vec::new();
    for (number, line) in source.statements() {
        for name in names_after(line, "crate::") {
            if name != module && !known.contains(&name) {
                let what = if name.is_empty() { "imports must name one module each" } else { "it must not know" };
                broken.push(format!("{}:{number}: {what} `{name}`: {}", source.path, line.trim()));
            }
        }
        if let Some(own) = source.dialect() {
            let others = DIALECTS.iter().filter(|other| **other != own);
            for other in others.filter(|other| names_after(line, "http::").contains(other)) {
                broken.push(format!("{}:{number}: a dialect names the dialect `{other}`", source.path));
            }
        }
    }
    broken
}

#[test]
fn a_module_names_only_modules_below_it() {
    let sources = product();
    assert!(sources.len() > 50, "the sources are found");
    assert_none(&sources.iter().flat_map(strange_names).collect::<Vec<_>>());
}

#[test]
fn a_word_stands_only_where_it_may() {
    let mut broken = Vec::new();
    for source in product() {
        for (number, line) in source.code() {
            let statement = without_comment(line);
            for (word, modules) in WORDS {
                let line = if ["TODO", "FIXME"].contains(word) { line } else { statement };
                if line.contains(word) && !modules.contains(&source.module()) {
                    broken.push(format!("{}:{number}: `{word}` must not stand here: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert_none(&broken);
}

/// Files that sync through `disk` and hold a file of the system's all the same, and why.
const SYNC_BESIDE_SYSTEM_FILES: &[&str] = &[
    // The lock is a file of the system's and holds no data.
    "src/engine/home.rs",
    // The bench measures a bare file beside the server.
    "src/bench/ceiling.rs",
];

/// Outside `disk` a sync is asked of a `DiskFile`. A source that has no file of the system's cannot sync one.
fn syncs_of_its_own(source: &Source) -> bool {
    let has = |words: &[&str]| source.statements().any(|(_, line)| words.iter().any(|word| line.contains(word)));
    let exempt = source.module() == "disk" || SYNC_BESIDE_SYSTEM_FILES.contains(&source.path.as_str());
    !exempt && has(&[".sync_data("]) && has(&["fs::File", "File::create", "File::open", "OpenOptions", "fs::write("])
}

#[test]
fn only_disk_syncs_files_of_the_system() {
    let sources = product();
    let broken = sources.iter().filter(|source| syncs_of_its_own(source));
    assert_none(
        &broken.map(|source| format!("{} syncs, and opens files of the system's", source.path)).collect::<Vec<_>>(),
    );
    for path in SYNC_BESIDE_SYSTEM_FILES {
        assert!(sources.iter().any(|source| source.path == *path), "{path} is gone: take it off the list");
    }
}

#[test]
fn tests_are_never_ignored_and_nothing_is_left_for_later() {
    let mut broken = Vec::new();
    for source in sources("tests").iter().chain(&sources("benches")) {
        if source.path == "tests/architecture.rs" {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            for word in ["#[ignore", "TODO", "FIXME", "unimplemented!", "todo!("] {
                if line.contains(word) {
                    broken.push(format!("{}:{}: `{word}`", source.path, number + 1));
                }
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn no_file_is_too_long() {
    let mut broken = Vec::new();
    for source in product().into_iter().chain(sources("tests")).chain(sources("benches")) {
        let lines = source.code().count();
        if lines > FILE_LINES_MAX {
            let path = &source.path;
            broken.push(format!("{path} has {lines} lines, at most {FILE_LINES_MAX} are allowed: split it by idea"));
        }
    }
    assert_none(&broken);
}

#[test]
fn the_rules_bite() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let broken = |path: &str, text: &str| strange_names(&source(path, text)).len();
    assert_eq!(broken("src/log/scan.rs", "use crate::model::Lsn;\nuse crate::disk::Disk;\n"), 0);
    assert_eq!(broken("src/log/scan.rs", "use crate::index::Tree;\n"), 1, "siblings never name each other");
    assert_eq!(broken("src/index/mod.rs", "fn f() { crate::log::open() }\n"), 1);
    assert_eq!(broken("src/model/id.rs", "use crate::engine::Engine;\n"), 1);
    assert_eq!(broken("src/clock.rs", "use crate::{disk, log};\n"), 1, "an import that hides what it names");
    assert_eq!(broken("src/http/jcq/mod.rs", "use crate::http::cloudflare::Fault;\n"), 1);
    assert_eq!(broken("src/http/jcq/mod.rs", "use crate::http::json;\nuse crate::http::jcq::wire;\n"), 0);
    assert_eq!(broken("src/engine/mod.rs", "// use crate::http::Front;\n"), 0, "a comment names nothing");
    assert_eq!(broken("src/engine/mod.rs", "#[cfg(test)]\nmod tests {\n use crate::http::Front;\n}\n"), 0);
    assert_eq!(broken("src/surprise.rs", ""), 1, "a new module needs a layer");
    assert_eq!(broken("src/cli/serve.rs", "use crate::http::Front;\n"), 0);
    let syncs = |text: &str| syncs_of_its_own(&source("src/log/mark.rs", text));
    assert!(syncs("use std::fs::File;\nfn f(file: &File) { file.sync_data() }\n"));
    assert!(!syncs("fn f(file: &dyn DiskFile) { file.sync_data() }\n"));
    assert_eq!(without_comment("let a = \"http://b\"; // c"), "let a = \"http://b\"; ");
}
