//! The catalogue: what the schema has, counted, so that nothing is added to it unseen.

use crate::support::TestDatabase;
use crate::support::fixtures::text;
use model_experiments::error::Constraint;

/// The tables of the schema, in a condition on `conrelid` or `indrelid`.
const OURS: &str = "= ANY ('{model_experiment, model_experiment_variant,
    model_experiment_variant_version, microdollar_usage, model_experiment_request}'::regclass[])";

#[tokio::test]
async fn the_catalogue_and_the_library_know_the_same_constraints() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    // Not-null constraints have rows of their own from PostgreSQL 18 on.
    let names = format!(
        "SELECT string_agg(name, ' ') AS text FROM (
            SELECT conname::text AS name FROM pg_constraint
            WHERE contype IN ('c', 'f', 'p', 'u', 'x') AND conrelid {OURS}
            UNION ALL
            SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indisunique AND indrelid {OURS}
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')
            UNION ALL
            (SELECT (regexp_matches(prosrc, 'broken := ''(\\w+)', 'g'))[1]
            FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION
            SELECT split_part(encode(tgargs, 'escape'), '\\000', 1)
            FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE proname = 'model_experiment_guard_rule' AND tgrelid {OURS}
            EXCEPT SELECT conname FROM pg_constraint)
        ) known"
    );
    let names = text(conn, &names).await;
    let mut catalogue: Vec<_> = names.split(' ').collect();
    let mut library: Vec<_> = Constraint::all().map(Constraint::name).collect();
    catalogue.sort_unstable();
    library.sort_unstable();
    assert_eq!(library.len(), 37);
    assert_eq!(catalogue, library);
}

#[tokio::test]
async fn every_foreign_key_has_an_index_and_the_delete_rule_of_the_design() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let keys = format!(
        "SELECT string_agg(concat_ws(' ', conname, confdeltype, EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = conrelid AND indpred IS NULL AND indisvalid
            AND (indkey::smallint[])[0:cardinality(conkey) - 1] = conkey
        )), E'\\n' ORDER BY conname) AS text
        FROM pg_constraint WHERE contype = 'f' AND conrelid {OURS}"
    );
    assert_eq!(
        text(conn, &keys).await,
        "model_experiment_request_usage_id_fkey c t\n\
         model_experiment_request_variant_version_id_fkey a t\n\
         model_experiment_variant_experiment_id_fkey c t\n\
         model_experiment_variant_version_variant_id_fkey c t"
    );
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let db = TestDatabase::new().await;
    let conn = &mut db.connect().await;
    let commented = "SELECT concat_ws(' ', count(*) FILTER (WHERE objsubid = 0),
            count(*) FILTER (WHERE objsubid > 0)) AS text
        FROM pg_description JOIN pg_class ON objoid = pg_class.oid AND classoid = 'pg_class'::regclass
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND relname NOT LIKE '\\_\\_diesel%' AND description ~ '^[A-Z].{10,}\\.$'";
    let existing = "SELECT concat_ws(' ', count(DISTINCT table_name), count(*)) AS text
        FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_diesel%'";
    assert_eq!(text(conn, existing).await, "5 49");
    assert_eq!(text(conn, commented).await, "5 49");
}
