SELECT
  "model_experiment_variant"."id",
  "model_experiment_variant"."experiment_id",
  "model_experiment_variant"."label",
  "model_experiment_variant"."weight",
  "model_experiment_variant"."created_at",
  "model_experiment_variant"."updated_at"
FROM
  "model_experiment_variant"
WHERE
  ("model_experiment_variant"."id" = $1)
