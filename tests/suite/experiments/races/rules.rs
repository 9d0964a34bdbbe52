//! The rules, as queries for what breaks them.

use diesel_async::AsyncPgConnection;

use crate::support::fixtures::{Counts, counts, number};

/// Rules, each with a selection of the rows that would break it.
const BROKEN: [(&str, &str); 10] = [
    (
        "at most one experiment is active or paused on a public model id",
        "model_experiment AS one JOIN model_experiment AS other USING (public_model_id)
         WHERE one.id < other.id AND one.status IN ('active', 'paused')
             AND other.status IN ('active', 'paused')",
    ),
    (
        "an experiment has started when it is more than a draft, and ended when it is completed",
        "model_experiment WHERE (status = 'draft') <> (started_at IS NULL)
             OR (status = 'completed') = (ended_at IS NULL) OR ended_at < started_at",
    ),
    (
        "no active experiment is archived",
        "model_experiment WHERE status = 'active' AND is_archived",
    ),
    (
        "what was started has a variant",
        "model_experiment AS experiment WHERE status <> 'draft' AND NOT EXISTS (
             SELECT FROM model_experiment_variant WHERE experiment_id = experiment.id)",
    ),
    (
        "what was started had a version of each variant that was effective by then",
        "model_experiment AS experiment
         JOIN model_experiment_variant AS variant ON experiment_id = experiment.id
         WHERE status <> 'draft' AND NOT EXISTS (
             SELECT FROM model_experiment_variant_version
             WHERE variant_id = variant.id AND effective_at <= started_at)",
    ),
    (
        "no variant came after the start, and each has a weight",
        "model_experiment AS experiment
         JOIN model_experiment_variant AS variant ON experiment_id = experiment.id
         WHERE variant.created_at > started_at OR weight < 1",
    ),
    (
        "no version was backdated or came after the end",
        "model_experiment AS experiment
         JOIN model_experiment_variant AS variant ON experiment_id = experiment.id
         JOIN model_experiment_variant_version AS version ON variant_id = variant.id
         WHERE effective_at < version.created_at OR version.created_at > ended_at",
    ),
    (
        "no two versions of a variant are effective at the same instant",
        "model_experiment_variant_version AS one
         JOIN model_experiment_variant_version AS other USING (variant_id, effective_at)
         WHERE one.id < other.id",
    ),
    (
        "a request has its usage's instant",
        "model_experiment_request AS request JOIN microdollar_usage AS usage ON usage.id = usage_id
         WHERE request.created_at <> usage.created_at",
    ),
    (
        "nothing has changed before it was made",
        "model_experiment AS experiment
         JOIN model_experiment_variant AS variant ON experiment_id = experiment.id
         WHERE experiment.updated_at < experiment.created_at
             OR variant.updated_at < variant.created_at",
    ),
];

pub async fn check(conn: &mut AsyncPgConnection) {
    let Counts { experiments, variants, versions, usages, requests } = counts(conn).await;
    assert!([experiments, variants, versions, usages, requests].iter().all(|rows| *rows > 0));
    for (rule, broken) in BROKEN {
        let broken = format!("SELECT count(*) AS number FROM {broken}");
        assert_eq!(number(conn, &broken).await, 0, "{rule}");
    }
}
