DELETE FROM
  "model_experiment_variant"
WHERE
  ("model_experiment_variant"."id" = $1)
RETURNING
  "model_experiment_variant"."id"
