-- Lists of experiments, newest first, read no more than their page, and skip archived experiments.
--
-- The table has a row for each experiment, not for each request, and is locked for milliseconds.
-- diesel-guard:disable AddIndexCheck

-- In a block each statement is a query of its own, as Citus demands of distributed tables.
DO $$
BEGIN
    CREATE INDEX "IDX_model_experiment_created_at"
        ON model_experiment (created_at DESC, id DESC);
    CREATE INDEX "IDX_model_experiment_status_created_at"
        ON model_experiment (status, created_at DESC, id DESC);
    CREATE INDEX "IDX_model_experiment_public_model_id_created_at"
        ON model_experiment (public_model_id, created_at DESC, id DESC);
END
$$;
