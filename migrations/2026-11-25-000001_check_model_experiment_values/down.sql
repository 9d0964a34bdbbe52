-- Drops the checks.

-- In a block each statement is a query of its own, as Citus demands of distributed tables. It also
-- refuses to change a reference table after a distributed table that refers to it.
DO $$
BEGIN
    ALTER TABLE model_experiment
        DROP CONSTRAINT model_experiment_instants_valid;
    ALTER TABLE model_experiment_variant
        DROP CONSTRAINT model_experiment_variant_instants_valid;
    ALTER TABLE model_experiment_variant_version
        DROP CONSTRAINT model_experiment_variant_version_instants_valid;
    ALTER TABLE model_experiment_variant_version
        DROP CONSTRAINT model_experiment_variant_version_size_valid;
    ALTER TABLE model_experiment_request
        DROP CONSTRAINT model_experiment_request_created_at_valid;
END
$$;
