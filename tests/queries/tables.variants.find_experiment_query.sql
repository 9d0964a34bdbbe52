SELECT
  "model_experiment_variant"."experiment_id"
FROM
  "model_experiment_variant"
WHERE
  ("model_experiment_variant"."id" = $1)
