//! Metrics in Prometheus' text format, written from the engine's own totals.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::engine::{Counts, GroupStatus, Histogram, Status};
use crate::http::call::Call;
use crate::http::native::health::status_within_reach;
use crate::http::problem::Problem;
use crate::http::state::Front;
use crate::model::Millis;

/// `GET /metrics`
pub async fn metrics(call: Call) -> Result<Response, Problem> {
    let status = status_within_reach(&call.front, &call.principal).await;
    let mut page = Page(String::new());
    page.topics(&status, call.front.clock.wall());
    page.engine(&status);
    page.front(&call.front);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0).into_response())
}

/// The page as far as it is written. Writing to it cannot fail.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.head(name, kind, help);
        self.sample(name, &[], value);
    }

    fn topics(&mut self, status: &Status, now: Millis) {
        self.head("windlass_messages_published_total", "counter", "Messages published since the start.");
        for topic in &status.topics {
            let (account, name) = names(topic.account.as_ref(), topic.topic.as_ref());
            let labels = [("account", account), ("topic", name)];
            self.sample("windlass_messages_published_total", &labels, topic.published as f64);
        }
        self.head("windlass_published_bytes_total", "counter", "Bytes of bodies published since the start.");
        for topic in &status.topics {
            let (account, name) = names(topic.account.as_ref(), topic.topic.as_ref());
            let labels = [("account", account), ("topic", name)];
            self.sample("windlass_published_bytes_total", &labels, topic.published_bytes as f64);
        }
        type Read = fn(&GroupStatus) -> u64;
        let counters: [(&str, &str, Read); 6] = [
            ("windlass_messages_delivered_total", "Deliveries, repeats included.", |group| group.delivered),
            ("windlass_messages_acked_total", "Messages acked.", |group| group.acked),
            ("windlass_messages_nacked_total", "Messages nacked.", |group| group.nacked),
            ("windlass_messages_lapsed_total", "Leases lapsed.", |group| group.lapsed),
            ("windlass_messages_dead_lettered_total", "Messages moved to dead letters.", |group| group.dead_lettered),
            ("windlass_messages_discarded_total", "Messages given up without dead letters.", |group| group.discarded),
        ];
        for (name, help, read) in counters {
            self.groups(status, name, "counter", help, |group| read(group) as f64);
        }
        self.groups(status, "windlass_pulls_waiting", "gauge", "Pulls waiting now.", |group| group.waiting as f64);
        type Count = fn(&Counts) -> u64;
        let gauges: [(&str, &str, Count); 3] = [
            ("windlass_messages_ready", "Messages deliverable now.", |counts| counts.ready),
            ("windlass_messages_in_flight", "Messages under a lease.", |counts| counts.in_flight),
            ("windlass_messages_delayed", "Messages waiting for their time.", |counts| counts.delayed),
        ];
        for (name, help, read) in gauges {
            self.groups(status, name, "gauge", help, |group| read(&group.counts) as f64);
        }
        let help = "Age of the oldest message not settled.";
        self.groups(status, "windlass_oldest_message_age_seconds", "gauge", help, |group| {
            group.counts.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64())
        });
    }

    fn groups(&mut self, status: &Status, name: &str, kind: &str, help: &str, read: impl Fn(&GroupStatus) -> f64) {
        self.head(name, kind, help);
        for topic in &status.topics {
            let (account, topic_name) = names(topic.account.as_ref(), topic.topic.as_ref());
            for group in &topic.groups {
                let group_name = group.group.as_ref().map(AsRef::as_ref).unwrap_or_default();
                let labels = [("account", account), ("topic", topic_name), ("group", group_name)];
                self.sample(name, &labels, read(group));
            }
        }
    }

    fn engine(&mut self, status: &Status) {
        let flag = |set| if set { 1.0 } else { 0.0 };
        self.single("windlass_disk_full", "gauge", "1: new messages are refused.", flag(status.disk_full));
        self.single("windlass_clock_suspect", "gauge", "1: age trims stand still.", flag(status.clock_suspect));
        self.single("windlass_log_bytes", "gauge", "Bytes of the log on disk.", status.log_bytes as f64);
        self.single("windlass_live_bytes", "gauge", "Bytes of it still needed.", status.live_bytes as f64);
        self.single("windlass_free_bytes", "gauge", "Bytes free on the file system.", status.free_bytes as f64);
        self.single("windlass_torn_tails", "gauge", "Torn tails cut by recovery.", status.torn.len() as f64);
        self.single("windlass_index_rebuilds_total", "counter", "Rebuilt indexes.", status.index_rebuilds as f64);
        self.histogram("windlass_sync_duration_seconds", "Duration of a sync.", &status.sync_seconds);
        self.histogram("windlass_commit_commands", "Commands that one commit carried.", &status.commit_commands);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            self.sample(&bucket, &[("le", &bound.to_string())], *count as f64);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count as f64);
        self.sample(&format!("{name}_sum"), &[], histogram.sum);
        self.sample(&format!("{name}_count"), &[], histogram.count as f64);
    }

    fn front(&mut self, front: &Front) {
        let meters = &front.meters;
        self.head("windlass_http_requests_total", "counter", "Requests answered, by dialect and class of status.");
        for (speech, class, count) in meters.answers() {
            let status = format!("{class}xx");
            self.sample(
                "windlass_http_requests_total",
                &[("dialect", speech.name()), ("status", &status)],
                count as f64,
            );
        }
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        self.single("windlass_http_connections", "gauge", "Connections open now.", load(&meters.connections));
        let help = "Bytes of request bodies in memory.";
        self.single("windlass_http_body_bytes", "gauge", help, front.body_bytes() as f64);
        let help = "Connections turned away at the bound.";
        self.single("windlass_http_connections_refused_total", "counter", help, load(&meters.connections_refused));
    }
}

fn names<'a, A: AsRef<str>, T: AsRef<str>>(account: Option<&'a A>, topic: Option<&'a T>) -> (&'a str, &'a str) {
    (account.map(AsRef::as_ref).unwrap_or_default(), topic.map(AsRef::as_ref).unwrap_or_default())
}
