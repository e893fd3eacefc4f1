//! `windlass token`: tokens and access keys, through a server or on the directory of a stopped one.
//! Which of the two is said by `--data-dir`, and by nothing else.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::access::{Grant, make_access_key, make_token};
use crate::cli::client::{Client, ClientArguments, segment};
use crate::cli::exit::{Exit, Failure};
use crate::cli::show;
use crate::cli::span::read_span;
use crate::cli::stopped::{Missing, Stopped, StoppedArguments};
use crate::cli::topic::{object, wire_word};
use crate::engine::Engine as _;
use crate::http::CredentialView;
use crate::model::{AccessId, AccessRecord, AccountName, Permissions, TopicPattern};

/// Makes, lists and revokes tokens and access keys: through the server, or with --data-dir on the
/// directory of a stopped one.
#[derive(Debug, Args)]
pub struct TokenArguments {
    #[command(flatten)]
    pub(super) client: ClientArguments,
    #[command(flatten)]
    stopped: StoppedArguments,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Makes a credential and shows its secret, this once.
    Create(Create),
    /// Lists credentials, without their secrets.
    List {
        /// Only those of this account (with --data-dir).
        #[arg(long)]
        account: Option<String>,
    },
    /// Revokes a credential, at once.
    Revoke {
        /// Its id.
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Token,
    AccessKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PermissionFlag {
    Publish,
    Consume,
    Admin,
}

#[derive(Debug, Args)]
struct Create {
    /// A bearer token, or a key id with a secret that signs requests.
    #[arg(long, value_enum, default_value_t = Kind::Token)]
    kind: Kind,
    /// The account it opens. Default: that of the caller; with --data-dir `default`.
    #[arg(long)]
    account: Option<String>,
    /// What it allows.
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    permission: Vec<PermissionFlag>,
    /// Topics it reaches: a name, a prefix and `*`, or `*`.
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    topics: String,
    /// How long it is good for (such as 30d). Default: until it is revoked.
    #[arg(long, value_name = "SPAN", value_parser = read_span)]
    expires: Option<Duration>,
}

const COLUMNS: [show::Column; 6] = [
    ("ID", "/id"),
    ("KIND", "/kind"),
    ("ACCOUNT", "/account"),
    ("PERMISSIONS", "/permissions"),
    ("TOPICS", "/topics"),
    ("EXPIRES MS", "/expires_at_ms"),
];

/// Does what the arguments say.
pub fn run(arguments: &TokenArguments) -> Result<Exit, Failure> {
    match arguments.stopped.data_dir {
        Some(_) => stopped(arguments),
        None => online(arguments),
    }
}

fn online(arguments: &TokenArguments) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.client)?;
    let format = arguments.client.output;
    match &arguments.what {
        What::Create(create) => {
            let expires = create.expires.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
            let request = object([
                ("kind", Some(wire_word(create.kind))),
                ("permissions", Some(create.permission.iter().map(|word| wire_word(*word)).collect())),
                ("topics", Some(create.topics.as_str().into())),
                ("expires_in_ms", expires.map(Value::from)),
                ("account", create.account.as_deref().map(Value::from)),
            ]);
            show::thing(format, &client.post("/tokens", &request)?)?;
        }
        What::List { account: Some(_) } => {
            return Err(Failure::Usage(
                "--account needs --data-dir: a server lists the account of the caller's token".to_owned(),
            ));
        }
        What::List { account: None } => print_list(format, &client.get("/tokens")?)?,
        What::Revoke { id } => {
            client.delete(&format!("/tokens/{}", segment(id)))?;
            show::done(format, &json!({"revoked": id}), &format!("revoked {id}"))?;
        }
    }
    Ok(Exit::Done)
}

fn print_list(format: show::Format, list: &Value) -> Result<(), Failure> {
    let credentials = list["credentials"].as_array().cloned().unwrap_or_default();
    Ok(show::rows(format, list, &credentials, &COLUMNS)?)
}

fn stopped(arguments: &TokenArguments) -> Result<Exit, Failure> {
    let missing = if matches!(arguments.what, What::Create(_)) { Missing::Make } else { Missing::Refuse };
    let stopped = Stopped::open(&arguments.stopped, missing)?;
    let done = on_engine(&stopped, arguments);
    stopped.close();
    done
}

fn on_engine(stopped: &Stopped, arguments: &TokenArguments) -> Result<Exit, Failure> {
    let format = arguments.client.output;
    match &arguments.what {
        What::Create(create) => show::thing(format, &make(stopped, create)?)?,
        What::List { account } => {
            let account = account.as_deref().map(AccountName::parse).transpose()?;
            let table = stopped.engine.access();
            let asked = |record: &&AccessRecord| account.as_ref().is_none_or(|account| record.account == *account);
            let views: Result<Vec<Value>, serde_json::Error> = table
                .records
                .values()
                .filter(asked)
                .map(|one| serde_json::to_value(CredentialView::from(one)))
                .collect();
            print_list(format, &json!({"credentials": views?}))?;
        }
        What::Revoke { id } => {
            let id = AccessId(id.clone());
            let account = stopped.engine.access().records.get(&id).map(|record| record.account.clone());
            let account = account.ok_or_else(|| Failure::said(format!("no credential `{id}`")))?;
            stopped.wait(stopped.engine.revoke_access(account, id.clone()))?;
            show::done(format, &json!({"revoked": id.0}), &format!("revoked {id}"))?;
        }
    }
    Ok(Exit::Done)
}

/// Makes and keeps a credential; the answer has the shape of the native API's.
fn make(stopped: &Stopped, create: &Create) -> Result<Value, Failure> {
    let has = |permission| create.permission.contains(&permission);
    let clock = &*stopped.clock;
    let grant = Grant {
        account: create.account.as_deref().map_or_else(|| Ok(AccountName::standard()), AccountName::parse)?,
        permissions: Permissions {
            publish: has(PermissionFlag::Publish),
            consume: has(PermissionFlag::Consume),
            admin: has(PermissionFlag::Admin),
        },
        topics: TopicPattern::parse(&create.topics)?,
        expires_at: create.expires.map(|span| clock.wall().after(span)),
    };
    let (record, secret) = match create.kind {
        Kind::Token => {
            let made = make_token(clock, grant);
            (made.record, made.token)
        }
        Kind::AccessKey => {
            let made = make_access_key(clock, &stopped.sealing, grant);
            (made.record, made.secret)
        }
    };
    let mut view = serde_json::to_value(CredentialView::from(&record))?;
    stopped.wait(stopped.engine.put_access(record))?;
    view["secret"] = secret.reveal().into();
    Ok(view)
}
