//! The published wrangler, unmodified, against the real binary: every `queues` command, by name, without an
//! account id in open mode and with one and a token.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "process/mod.rs"]
mod process;

use std::process::{Command, Stdio};

use process::Process;
use process::script::installed;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An account as Cloudflare writes them.
const ACCOUNT: &str = "023e105f4ecef8ad9ca31a8372d0c353";

/// A server, and a directory in which wrangler finds nothing of the tester's.
struct Rig {
    server: Process,
    home: TempDir,
    /// `None`: wrangler is told none and has to find it.
    account: Option<&'static str>,
    token: String,
}

/// What a command said.
struct Said {
    command: String,
    exit: Option<i32>,
    text: String,
}

impl Rig {
    fn open() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let server = Process::start(&home.path().join("data"));
        Self { server, home, account: None, token: "any".to_owned() }
    }

    fn with_token() -> Self {
        let rig = Self::open();
        let grant = json!({"account": ACCOUNT, "permissions": ["publish", "consume", "admin"]});
        let made = rig.server.client().post("/api/windlass/v1/tokens", &grant).expect("an answer").expect(201);
        let token = made["secret"].as_str().expect("a secret").to_owned();
        Self { account: Some(ACCOUNT), token, ..rig }
    }

    /// Runs `wrangler` with the words of `command`, in an environment of its own.
    fn run(&self, command: &str) -> Said {
        let home = self.home.path();
        let mut process = Command::new("node");
        process
            .arg(installed("node_modules/wrangler/bin/wrangler.js"))
            .args(command.split(' '))
            .current_dir(home)
            .env_clear();
        process.env("PATH", std::env::var_os("PATH").expect("a path")).env("HOME", home).env("XDG_CONFIG_HOME", home);
        process.env("WRANGLER_CACHE_DIR", home.join("cache")).env("WRANGLER_SEND_METRICS", "false").env("CI", "true");
        process.env("NO_COLOR", "1").env("no_proxy", "*").env("CLOUDFLARE_API_TOKEN", &self.token);
        process.env("CLOUDFLARE_API_BASE_URL", format!("http://{}/client/v4", self.server.address));
        if let Some(account) = self.account {
            process.env("CLOUDFLARE_ACCOUNT_ID", account);
        }
        let output = process.stdin(Stdio::null()).output().expect("node is needed");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("$ wrangler {command}\n{text}");
        Said { command: command.to_owned(), exit: output.status.code(), text }
    }

    /// A queue as the API shows it.
    fn queue(&self, name: &str) -> Value {
        let path = format!("/client/v4/accounts/{}/queues?name={name}", self.account.unwrap_or("any"));
        let client = self.server.client();
        let mut client = if self.account.is_some() { client.with_token(&self.token) } else { client };
        client.get(&path).expect("an answer").expect(200)["result"][0].clone()
    }
}

impl Said {
    /// It went well, and said so.
    #[track_caller]
    fn well(self, words: &[&str]) -> Self {
        self.ended(0, words)
    }

    /// It failed, and said why.
    #[track_caller]
    fn badly(self, words: &[&str]) -> Self {
        self.ended(1, words)
    }

    #[track_caller]
    fn ended(self, exit: i32, words: &[&str]) -> Self {
        assert_eq!(self.exit, Some(exit), "wrangler {}:\n{}", self.command, self.text);
        for word in words {
            assert!(self.text.contains(word), "wrangler {} does not say `{word}`:\n{}", self.command, self.text);
        }
        self
    }
}

#[test]
fn wrangler_makes_changes_and_deletes_queues_without_an_account_id() {
    let rig = Rig::open();
    rig.run("queues create jobs --delivery-delay-secs 3 --message-retention-period-secs 600")
        .well(&["Created queue 'jobs'"]);
    let settings = json!({"delivery_delay": 3, "delivery_paused": false, "message_retention_period": 600});
    assert_eq!(rig.queue("jobs")["settings"], settings);
    // One whose name begins like the other's, and is listed before it.
    rig.run("queues create job").well(&["Created queue 'job'"]);
    rig.run("queues create jobs").badly(&["queue name is already taken", "[code: 11009]"]);
    rig.run("queues create bad_name").badly(&["invalid queue name", "[code: 11003]"]);
    rig.run("queues list").well(&["jobs", rig.queue("jobs")["queue_id"].as_str().expect("an id")]);
    let second = rig.run("queues list --page 2").well(&[]);
    assert!(!second.text.contains("job"), "{}", second.text);
    rig.run("queues info jobs").well(&["Queue Name: jobs", "Number of Producers: 0", "Number of Consumers: 0"]);
    rig.run("queues update jobs --delivery-delay-secs 0").well(&["Updated queue jobs"]);
    assert_eq!(rig.queue("jobs")["settings"]["delivery_delay"], 0);
    assert_eq!(rig.queue("jobs")["settings"]["message_retention_period"], 600);
    rig.run("queues pause-delivery jobs").well(&["Paused message delivery for queue jobs"]);
    assert_eq!(rig.queue("jobs")["settings"]["delivery_paused"], true);
    assert_eq!(rig.queue("job")["settings"]["delivery_paused"], false);
    rig.run("queues resume-delivery jobs").well(&["Resumed message delivery for queue jobs"]);
    assert_eq!(rig.queue("jobs")["settings"]["delivery_paused"], false);
    rig.run("queues delete jobs").well(&["Deleted queue jobs"]);
    assert_eq!(rig.queue("jobs"), Value::Null);
    assert_eq!(rig.queue("job")["queue_name"], "job", "names are compared whole");
    rig.run("queues delete jobs").badly(&["Queue \"jobs\" does not exist"]);
    rig.run("whoami").well(&["default"]);
}

#[test]
fn wrangler_manages_consumers_purges_and_finds_no_workers_and_no_events() {
    let rig = Rig::with_token();
    rig.run("queues create jobs").well(&["Created queue 'jobs'"]);
    rig.run("queues consumer list jobs").well(&["No consumers found for queue \"jobs\""]);
    rig.run("queues consumer worker add jobs script").badly(&["this server runs no workers", "[code: 11001]"]);
    let options = "--batch-size 7 --message-retries 4 --visibility-timeout-secs 12 --retry-delay-secs 1";
    let add = format!("queues consumer http add jobs {options} --dead-letter-queue dead");
    rig.run(&add).well(&["Added consumer to queue jobs"]);
    let consumer = rig.queue("jobs")["consumers"][0].clone();
    let settings = json!({"batch_size": 7, "max_retries": 4, "retry_delay": 1, "visibility_timeout_ms": 12_000});
    assert_eq!((&consumer["settings"], &consumer["dead_letter_queue"]), (&settings, &json!("dead")));
    rig.run("queues consumer http add jobs").badly(&["consumer_exists", "[code: 11004]"]);
    let id = consumer["consumer_id"].as_str().expect("an id");
    rig.run("queues consumer list jobs").well(&["HTTP pull consumers", id, "12000"]);
    rig.run("queues consumer http list jobs").well(&[id]);
    rig.run("queues consumer worker list jobs").well(&["No worker consumers found"]);
    rig.run("queues consumer worker remove jobs script").badly(&["No worker consumer 'script' exists"]);
    rig.run("queues info jobs").well(&["Number of Consumers: 1", "HTTP Pull Consumer"]);

    let queue = rig.queue("jobs")["queue_id"].as_str().expect("an id").to_owned();
    let path = format!("/client/v4/accounts/{ACCOUNT}/queues/{queue}");
    let mut client = rig.server.client().with_token(&rig.token);
    client.post(&format!("{path}/messages"), &json!({"body": 1})).expect("an answer").expect(200);
    rig.run("queues purge jobs --force").well(&["Purged Queue 'jobs'"]);
    let metrics = client.get(&format!("{path}/metrics")).expect("an answer").expect(200);
    assert_eq!(metrics["result"]["backlog_count"], 0);

    rig.run("queues subscription list jobs").well(&["No event subscriptions found for queue 'jobs'"]);
    let create = "queues subscription create jobs --source r2 --events bucket.created";
    rig.run(create).badly(&["event subscriptions are not supported", "[code: 7001]"]);
    for verb in ["get", "delete --force", "update --name n"] {
        rig.run(&format!("queues subscription {verb} jobs --id 00")).badly(&["[code: 7003]"]);
    }
    rig.run("queues consumer http remove jobs").well(&["Removed consumer from queue jobs"]);
    assert_eq!(rig.queue("jobs")["consumers"], json!([]));

    let stranger = Rig { token: "wrong".to_owned(), ..rig };
    stranger.run("queues list").badly(&["[code: 10000]"]);
}
