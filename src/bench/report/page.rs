//! The page of a report: one file, no script, nothing fetched.

use std::collections::BTreeSet;

use crate::bench::numbers::{Numbers, Run, least, median, mib, most};
use crate::bench::report::plot::{Drawing, brief, escaped};
use crate::bench::report::{Figures, called, names};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,'Segoe UI',Helvetica,Arial,sans-serif;color:#1d2329;background:#f5f7f8;margin:0}\
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:38px 0 10px}\
p{max-width:78ch}.about{color:#57626b;font-size:13px}code{background:#e8ecee;padding:1px 4px;border-radius:3px}\
.row{display:flex;flex-wrap:wrap;gap:14px}.row svg{background:#fff;border:1px solid #e0e5e8;border-radius:6px;max-width:100%;height:auto}\
table{border-collapse:collapse;background:#fff;font-size:13px;border:1px solid #e0e5e8}th,td{padding:5px 10px;border-bottom:1px solid #edf0f2;text-align:right;font-variant-numeric:tabular-nums}\
th{background:#eef2f3;font-weight:600}td:first-child,th:first-child,td.text,th.text{text-align:left}tr.own td{font-weight:600}\
.yes{color:#00795a;font-weight:600}.no{color:#b4232a;font-weight:600}.wide{overflow-x:auto}";

/// Writes it.
pub fn html(numbers: &Numbers, figures: &Figures) -> String {
    let mut body = String::from("<h1>windlass: what was measured</h1>");
    if let Some(about) = &numbers.about {
        body.push_str(&format!(
            "<p class=\"about\">windlass {} on {}; {}. Repeat it with <code>{}</code></p>",
            escaped(&about.version),
            escaped(&about.machine),
            escaped(&about.at),
            escaped(&about.command)
        ));
    }
    body.push_str(
        "<p>Every figure is the median of its rounds; bars show the least and the most of them. All servers of one chart ran in \
         turn on the same machine, client and server together, so that ratios mean something and absolute figures mean this \
         machine. Every answered publish was synced to the disk first, by windlass and by its peers. <b>group commit</b> is \
         a ceiling, not a server: axum with one thread that syncs what came meanwhile, a queue in memory, nothing recovered. \
         <b>axum alone</b>, in the last table, answers a constant and touches no disk.</p>",
    );
    section(&mut body, "Publish by connections", &figures.by_connections);
    section(&mut body, "Batches, and taking a backlog", &figures.bars);
    section(&mut body, "As more waits", &figures.by_backlog);
    body.push_str(&trials(numbers));
    body.push_str(&sizes(numbers));
    body.push_str(&runs(numbers));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>windlass: what was measured</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )
}

fn section(body: &mut String, title: &str, drawings: &[Drawing]) {
    if drawings.is_empty() {
        return;
    }
    let drawn: String = drawings.iter().map(Drawing::svg).collect();
    body.push_str(&format!("<h2>{title}</h2><div class=\"row\">{drawn}</div>"));
}

fn table(title: &str, head: &[&str], rows: &[String]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!("<h2>{title}</h2><div class=\"wide\"><table><tr>{head}</tr>{}</table></div>", rows.concat())
}

fn trials(numbers: &Numbers) -> String {
    let rows: Vec<String> = numbers
        .trials
        .iter()
        .map(|trial| {
            let outcome = match (trial.aim.is_empty(), trial.met) {
                (true, _) => "",
                (false, true) => "<span class=\"yes\">reached</span>",
                (false, false) => "<span class=\"no\">missed</span>",
            };
            format!(
                "<tr><td>{}</td><td class=\"text\">{}</td><td class=\"text\">{}</td><td class=\"text\">{outcome}</td></tr>",
                escaped(&trial.name),
                escaped(&trial.figures),
                escaped(&trial.aim)
            )
        })
        .collect();
    table("What stays flat, and what it costs", &["", "", "aim", ""], &rows)
}

fn spread(figures: &[f64]) -> String {
    match figures.is_empty() {
        true => String::new(),
        false => format!("{} ({} to {})", brief(median(figures)), brief(least(figures)), brief(most(figures))),
    }
}

fn sizes(numbers: &Numbers) -> String {
    let rows: Vec<String> = numbers
        .sizes
        .iter()
        .map(|size| {
            let cells = [
                format!("{} x {} B", brief(size.waiting as f64), size.body_bytes),
                spread(&size.publish),
                spread(&size.take_single),
                spread(&size.take_batch),
                size.resident.iter().max().map(|bytes| mib(*bytes)).unwrap_or_default(),
                mib(size.resident_ready),
                spread(&size.ready_seconds),
                mib(size.disk_bytes),
            ];
            format!("<tr>{}</tr>", cells.map(|cell| format!("<td>{cell}</td>")).concat())
        })
        .collect();
    let head = [
        "waiting",
        "publish/s",
        "take + ack/s, x 1",
        "x 100",
        "RSS under load",
        "after a restart",
        "ready after, s",
        "on disk",
    ];
    table("By backlog", &head, &rows)
}

/// Every case with everybody in it: rates, ratio, times.
fn runs(numbers: &Numbers) -> String {
    let order = ["publish", "take_ack", "latency"];
    let place = |case: &str| order.iter().position(|known| *known == case).unwrap_or(order.len());
    let cases: BTreeSet<(usize, usize, usize, &str)> =
        numbers.runs.iter().map(|run| (place(&run.case), run.batch, run.connections, run.case.as_str())).collect();
    let mut rows = Vec::new();
    for (_, batch, connections, case) in cases {
        let of = |run: &&Run| (run.case.as_str(), run.connections, run.batch) == (case, connections, batch);
        let runs: Vec<&Run> = numbers.runs.iter().filter(of).collect();
        let figures = |name: &str, read: fn(&Run) -> f64| -> Vec<f64> {
            runs.iter().filter(|run| run.who == name).map(|run| read(run)).collect()
        };
        let own = median(&figures("windlass", |run| run.rate));
        for name in names(&runs).into_iter().rev() {
            let rate = median(&figures(&name, |run| run.rate));
            let ratio = if name == "windlass" || own <= 0.0 { String::new() } else { format!("{:.2}", own / rate) };
            let time = |read: fn(&Run) -> f64| format!("{:.2}", median(&figures(&name, read)));
            let said = case.replace("take_ack", "take + ack");
            rows.push(format!(
                "<tr{}><td>{said}, {connections} x {batch}</td><td class=\"text\">{}</td><td>{}</td><td>{ratio}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                if name == "windlass" { " class=\"own\"" } else { "" },
                escaped(&called(&name)),
                spread(&figures(&name, |run| run.rate)),
                time(|run| run.p50_ms),
                time(|run| run.p99_ms),
                time(|run| run.p999_ms),
            ));
        }
    }
    let head =
        ["connections x batch", "", "messages/s", "windlass is so many times that", "p50 ms", "p99 ms", "p99.9 ms"];
    table("All loads", &head, &rows)
}
