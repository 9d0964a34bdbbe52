//! The metrics that a test measures.

use metrics_util::CompositeKey;
use metrics_util::debugging::{DebugValue, Snapshotter};
use std::collections::BTreeMap;

/// The metrics whose names begin with `prefix`, by the rest of the name and the labels. The value
/// of a histogram is the sum. Counters and histograms are reset.
///
/// Fails where a metric has another prefix or no description.
pub fn values(snapshotter: &Snapshotter, prefix: &str) -> BTreeMap<String, f64> {
    let named = |(key, _, description, value): (CompositeKey, _, Option<_>, _)| {
        let key = key.key();
        assert!(description.is_some(), "{key}");
        let labels = key.labels().map(|label| format!(" {}", label.value())).collect::<String>();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.into_iter().map(f64::from).sum(),
        };
        (format!("{}{labels}", key.name().strip_prefix(prefix).unwrap()), value)
    };
    snapshotter.snapshot().into_vec().into_iter().map(named).collect()
}
