-- Drops the guards. The library still checks the rules itself.

-- The setting and the block are for Citus, as in up.sql.
SET LOCAL citus.enable_unsafe_triggers TO on;

DO $$
BEGIN
    DROP TRIGGER model_experiment_variant_set_updated_at ON model_experiment_variant;
    DROP TRIGGER model_experiment_set_updated_at ON model_experiment;
    DROP TRIGGER model_experiment_request_guard_truncate ON model_experiment_request;
    DROP TRIGGER model_experiment_variant_version_guard_truncate ON model_experiment_variant_version;
    DROP TRIGGER model_experiment_variant_guard_truncate ON model_experiment_variant;
    DROP TRIGGER model_experiment_guard_truncate ON model_experiment;
    DROP TRIGGER model_experiment_request_guard_delete ON model_experiment_request;
    DROP TRIGGER model_experiment_request_guard_update ON model_experiment_request;
    DROP TRIGGER model_experiment_variant_version_guard_commit ON model_experiment_variant_version;
    DROP TRIGGER model_experiment_variant_version_guard_instants ON model_experiment_variant_version;
    DROP TRIGGER model_experiment_variant_version_guard_delete ON model_experiment_variant_version;
    DROP TRIGGER model_experiment_variant_version_guard_update ON model_experiment_variant_version;
    DROP TRIGGER model_experiment_variant_version_guard_insert ON model_experiment_variant_version;
    DROP TRIGGER model_experiment_variant_guard_label ON model_experiment_variant;
    DROP TRIGGER model_experiment_variant_guard_weight ON model_experiment_variant;
    DROP TRIGGER model_experiment_variant_guard_structure ON model_experiment_variant;
    DROP TRIGGER model_experiment_variant_guard_identity ON model_experiment_variant;
    DROP TRIGGER model_experiment_guard_identity ON model_experiment;
    DROP TRIGGER model_experiment_guard_instants ON model_experiment;
    DROP TRIGGER model_experiment_guard_public_model_id ON model_experiment;
    DROP TRIGGER model_experiment_guard_delete ON model_experiment;
    DROP TRIGGER model_experiment_guard_status ON model_experiment;
    DROP TRIGGER model_experiment_guard_insert ON model_experiment;

    ALTER TABLE model_experiment
        DROP CONSTRAINT model_experiment_ended_at_valid;
    ALTER TABLE model_experiment
        DROP CONSTRAINT model_experiment_started_at_valid;
END
$$;

DROP FUNCTION model_experiment_set_updated_at;
DROP FUNCTION model_experiment_request_guard_delete;
DROP FUNCTION model_experiment_variant_version_guard_commit;
DROP FUNCTION model_experiment_variant_version_guard_instants;
DROP FUNCTION model_experiment_guard;
-- Citus doesn't drop the copies of TRUNCATE triggers that it made on shards.
DROP FUNCTION model_experiment_guard_rule CASCADE;
