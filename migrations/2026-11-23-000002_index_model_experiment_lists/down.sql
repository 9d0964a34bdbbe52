-- Drops the indexes. Lists read the whole table again.
-- The table has a row for each experiment, not for each request, and is locked for milliseconds.
-- diesel-guard:disable DropIndexCheck

-- In a block each statement is a query of its own, as Citus demands of distributed tables.
DO $$
BEGIN
    DROP INDEX "IDX_model_experiment_public_model_id_created_at";
    DROP INDEX "IDX_model_experiment_status_created_at";
    DROP INDEX "IDX_model_experiment_created_at";
END
$$;
