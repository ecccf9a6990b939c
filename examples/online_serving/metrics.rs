//! Counters of requests, and what is served, in Prometheus' text format. Units are those of Prometheus: seconds.
//! Nothing is pushed anywhere.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use asof::AsOf;

use crate::served::{Refreshes, Served};

/// Upper bounds of the latencies' buckets in seconds, inclusive.
const BUCKETS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Requests by route, and by the answer's status.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<(String, u16), Latencies>>);

#[derive(Clone, Default)]
struct Latencies {
    /// Requests in each bucket alone; those above the last one are only in `count`.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum_s: f64,
}

impl Metrics {
    /// Counts a request that was answered.
    pub(crate) fn add(&self, route: &str, status: u16, latency: Duration) {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latencies = requests.entry((route.to_owned(), status)).or_default();
        let seconds = latency.as_secs_f64();
        if let Some(bucket) =
            BUCKETS.iter().zip(&mut latencies.buckets).find_map(|(most, count)| (seconds <= *most).then_some(count))
        {
            *bucket += 1;
        }
        latencies.count += 1;
        latencies.sum_s += seconds;
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self, served: Option<&Served>, refreshes: &Refreshes, now: AsOf) -> String {
        let requests = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = Page::default();
        page.family("http_requests_total", "counter", "Requests that were answered");
        for ((route, status), latencies) in &requests {
            page.line("http_requests_total", &[("route", route), ("status", &status.to_string())], latencies.count as f64);
        }
        page.family("http_request_duration_seconds", "histogram", "From the request's head to the answer");
        for ((route, status), latencies) in &requests {
            let status = status.to_string();
            let labels = [("route", route.as_str()), ("status", status.as_str())];
            let mut so_far = 0;
            for (most, count) in BUCKETS.iter().zip(latencies.buckets) {
                so_far += count;
                let bound = most.to_string();
                page.line("http_request_duration_seconds_bucket", &[labels[0], labels[1], ("le", &bound)], so_far as f64);
            }
            page.line("http_request_duration_seconds_bucket", &[labels[0], labels[1], ("le", "+Inf")], latencies.count as f64);
            page.line("http_request_duration_seconds_sum", &labels, latencies.sum_s);
            page.line("http_request_duration_seconds_count", &labels, latencies.count as f64);
        }
        page.served(served, now);
        page.family("feature_refreshes_total", "counter", "Looks for newer features and models");
        page.line("feature_refreshes_total", &[("outcome", "succeeded")], refreshes.succeeded as f64);
        page.line("feature_refreshes_total", &[("outcome", "failed")], refreshes.failed as f64);
        page.family(
            "feature_refresh_failing_since_seconds",
            "gauge",
            "Unix time of the first refresh that failed; 0 if the last one did not",
        );
        let since = refreshes.failing.as_ref().map_or(0.0, |(since, _)| since.micros() as f64 / 1e6);
        page.line("feature_refresh_failing_since_seconds", &[], since);
        page.0
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn served(&mut self, served: Option<&Served>, now: AsOf) {
        let Some(served) = served else { return };
        self.family("model_info", "gauge", "The model that predicts");
        self.line("model_info", &[("model", served.model.name()), ("id", &served.model.id().to_string())], 1.0);
        let sets = served.materializations().map(|made| (made.manifest().set.to_string(), made));
        self.family("feature_set_info", "gauge", "The materialization that is served of a set");
        for (set, made) in &sets {
            self.line("feature_set_info", &[("set", set), ("id", &made.id().to_string())], 1.0);
        }
        self.family("feature_as_of_age_seconds", "gauge", "How long ago the as-of of the features was");
        for (set, made) in &sets {
            self.line("feature_as_of_age_seconds", &[("set", set)], (now.micros() - made.as_of().micros()) as f64 / 1e6);
        }
        self.family("feature_rows", "gauge", "Rows of the materialization");
        for (set, made) in &sets {
            self.line("feature_rows", &[("set", set)], made.rows() as f64);
        }
        let (reads, set) = (served.zones.reads(), sets[1].0.as_str());
        self.family("feature_reads_total", "counter", "Keys that were asked for, by whether they have facts");
        self.line("feature_reads_total", &[("set", set), ("found", "true")], reads.hits as f64);
        self.line("feature_reads_total", &[("set", set), ("found", "false")], reads.misses as f64);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}
