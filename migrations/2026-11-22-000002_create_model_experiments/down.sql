-- Drops every experiment and every attribution. The usage ledger stays.
-- diesel-guard:disable DropTableCheck
DROP TABLE model_experiment_request;
DROP TABLE model_experiment_variant_version;
DROP TABLE model_experiment_variant;
DROP TABLE model_experiment;
