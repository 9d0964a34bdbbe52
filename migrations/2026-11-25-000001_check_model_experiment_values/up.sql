-- Instants lie in the years 1 to 9999, which RFC 3339 can write, and versions have a size that can
-- be loaded.
--
-- The checks hold for rows to come. They are NOT VALID, so that no table is read while it is
-- locked, and that a row which breaks one doesn't stop an upgrade: its instants are read as the end
-- of the range, and its size makes its experiment unavailable alone. Validate each when there is
-- time. That reads the table once, and writers go on:
--
--   ALTER TABLE model_experiment VALIDATE CONSTRAINT model_experiment_instants_valid;
--
-- The sizes are those of the server's text: a number with an exponent is longer there.

-- In a block each statement is a query of its own, as Citus demands of distributed tables.
DO $$
BEGIN
    ALTER TABLE model_experiment
        ADD CONSTRAINT model_experiment_instants_valid CHECK (
            least(created_at, updated_at, started_at, ended_at) >= '0001-01-01 00:00:00+00'
            AND greatest(created_at, updated_at, started_at, ended_at) <= '9999-12-31 23:59:59.999999+00'
        ) NOT VALID;

    ALTER TABLE model_experiment_variant
        ADD CONSTRAINT model_experiment_variant_instants_valid CHECK (
            least(created_at, updated_at) >= '0001-01-01 00:00:00+00'
            AND greatest(created_at, updated_at) <= '9999-12-31 23:59:59.999999+00'
        ) NOT VALID;

    ALTER TABLE model_experiment_variant_version
        ADD CONSTRAINT model_experiment_variant_version_instants_valid CHECK (
            least(created_at, effective_at) >= '0001-01-01 00:00:00+00'
            AND greatest(created_at, effective_at) <= '9999-12-31 23:59:59.999999+00'
        ) NOT VALID;
    ALTER TABLE model_experiment_variant_version
        ADD CONSTRAINT model_experiment_variant_version_size_valid CHECK (
            octet_length(upstream::text) <= 8388608 AND octet_length(encrypted_api_key::text) <= 131072
        ) NOT VALID;

    ALTER TABLE model_experiment_request
        ADD CONSTRAINT model_experiment_request_created_at_valid CHECK (
            created_at >= '0001-01-01 00:00:00+00'
            AND created_at <= '9999-12-31 23:59:59.999999+00'
        ) NOT VALID;
END
$$;
