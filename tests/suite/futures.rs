//! Every public future is `Send`, so that a service can await it in a task that it spawns.
//!
//! The compiler checks it. No future is polled.

use model_experiments::experiments::{
    self, ExperimentChanges, ExperimentFilter, NewExperiment, NewVersion,
};
use model_experiments::recording::{self, NewRequest, Receipt, Record, Usage, record};
use model_experiments::reports::{feedback, loss_ledger, overview, summary};
use model_experiments::routing;
use model_experiments::values::{
    EncryptedApiKey, ExperimentId, Label, PublicModelId, Timestamp, UsageId, VariantId, VersionId,
    Weight,
};
use model_experiments::{
    AsyncPgConnection, ConnectOptions, Page, Pool, Recorder, RecorderOptions, RoutingCache,
    RoutingOptions, migrations,
};
use std::ops::Range;
use std::time::Duration;

fn assert_send<T: Send>(_: T) {}

/// The arguments of the functions.
struct Arguments<'a> {
    experiment: ExperimentId,
    variant: VariantId,
    version: VersionId,
    usage_id: UsageId,
    public_model_id: &'a PublicModelId,
    label: &'a Label,
    weight: Weight,
    key: &'a EncryptedApiKey,
    new_experiment: &'a NewExperiment,
    new_version: NewVersion<'a>,
    new_request: &'a NewRequest,
    changes: &'a ExperimentChanges,
    filter: &'a ExperimentFilter,
    usage: &'a Usage,
    record: &'a Record,
    now: Timestamp,
    window: &'a Range<Timestamp>,
}

fn of_experiments(conn: &mut AsyncPgConnection, given: &Arguments<'_>) {
    let Arguments { experiment, variant, version, label, weight, key, now, .. } = *given;
    assert_send(experiments::create(conn, given.new_experiment));
    assert_send(experiments::update(conn, experiment, given.changes));
    assert_send(experiments::delete(conn, experiment));
    assert_send(experiments::add_variant(conn, experiment, label, weight));
    assert_send(experiments::remove_variant(conn, variant));
    assert_send(experiments::set_weight(conn, variant, weight));
    assert_send(experiments::set_label(conn, variant, label));
    assert_send(experiments::publish(conn, variant, given.new_version));
    assert_send(experiments::rotate_key(conn, variant, key));
    assert_send(experiments::activate(conn, experiment));
    assert_send(experiments::pause(conn, experiment));
    assert_send(experiments::complete(conn, experiment));
    assert_send(experiments::archive(conn, experiment));
    assert_send(experiments::unarchive(conn, experiment));
    assert_send(experiments::find(conn, experiment));
    assert_send(experiments::list(conn, given.filter, Page::first(1)));
    assert_send(experiments::find_variant(conn, variant));
    assert_send(experiments::list_variants(conn, experiment));
    assert_send(experiments::find_version(conn, version));
    assert_send(experiments::find_current_version(conn, variant));
    assert_send(experiments::find_version_at(conn, variant, now));
    assert_send(experiments::list_current_versions(conn, experiment));
    assert_send(experiments::list_versions_at(conn, experiment, now));
    assert_send(experiments::list_versions(conn, variant, Page::first(1)));
}

fn of_routing(conn: &mut AsyncPgConnection, given: &Arguments<'_>) {
    assert_send(routing::load(conn, given.public_model_id));
    assert_send(routing::load_all(conn));
}

fn of_the_routing_cache(options: &ConnectOptions, cache: &RoutingCache) {
    assert_send(RoutingCache::start(options, RoutingOptions::default()));
    assert_send(cache.shutdown());
}

fn of_recording(conn: &mut AsyncPgConnection, given: &Arguments<'_>) {
    let Arguments { usage_id, usage, record, new_request, .. } = *given;
    assert_send(record::one(conn, record));
    assert_send(record::attribute(conn, usage_id, new_request));
    assert_send(record::many(conn, &[record]));
    assert_send(record::usages(conn, &[usage]));
    assert_send(record::attribute_many(conn, &[(usage_id, new_request)]));
    assert_send(recording::find_usage(conn, usage_id));
    assert_send(recording::find_request(conn, usage_id));
    assert_send(recording::list_requests(conn, "client-1"));
}

fn of_the_recorder(
    options: &ConnectOptions,
    recorder: &Recorder,
    record: &Record,
    receipt: Receipt,
) {
    assert_send(Recorder::start(options, RecorderOptions::default()));
    assert_send(recorder.submit(record.clone()));
    assert_send(recorder.shutdown(Duration::ZERO));
    assert_send(receipt);
}

fn of_reports(conn: &mut AsyncPgConnection, given: &Arguments<'_>) {
    let Arguments { experiment, window, .. } = *given;
    assert_send(feedback::served_by(conn, &["client-1"]));
    assert_send(loss_ledger::list(conn, experiment, window, Page::first(1)));
    assert_send(overview::of_experiment(conn, experiment));
    assert_send(summary::by_version(conn, experiment, window));
    assert_send(summary::by_version_and_subject(conn, experiment, window));
}

fn of_connections(options: &ConnectOptions, pool: &Pool) {
    assert_send(options.connect());
    assert_send(pool.get());
    assert_send(pool.health());
    assert_send(migrations::run(options));
    assert_send(migrations::pending(options));
}

/// Names the functions above, which then have to compile.
#[test]
fn futures_are_send() {
    type OfConnection = fn(&mut AsyncPgConnection, &Arguments<'_>);
    let _: [OfConnection; 4] = [of_experiments, of_routing, of_recording, of_reports];
    let _: fn(&ConnectOptions, &RoutingCache) = of_the_routing_cache;
    let _: fn(&ConnectOptions, &Recorder, &Record, Receipt) = of_the_recorder;
    let _: fn(&ConnectOptions, &Pool) = of_connections;
}
