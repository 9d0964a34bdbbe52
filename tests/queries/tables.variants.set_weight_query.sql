UPDATE
  "model_experiment_variant"
SET
  "weight" = $1,
  "updated_at" = statement_timestamp()
WHERE
  ("model_experiment_variant"."id" = $2)
RETURNING
  "model_experiment_variant"."id",
  "model_experiment_variant"."experiment_id",
  "model_experiment_variant"."label",
  "model_experiment_variant"."weight",
  "model_experiment_variant"."created_at",
  "model_experiment_variant"."updated_at"
