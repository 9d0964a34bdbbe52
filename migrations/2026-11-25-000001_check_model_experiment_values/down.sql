-- Drops the checks.

ALTER TABLE model_experiment_request
    DROP CONSTRAINT model_experiment_request_created_at_valid;
ALTER TABLE model_experiment_variant_version
    DROP CONSTRAINT model_experiment_variant_version_size_valid,
    DROP CONSTRAINT model_experiment_variant_version_instants_valid;
ALTER TABLE model_experiment_variant
    DROP CONSTRAINT model_experiment_variant_instants_valid;
ALTER TABLE model_experiment
    DROP CONSTRAINT model_experiment_instants_valid;
