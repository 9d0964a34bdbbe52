SELECT
  "model_experiment_variant_version"."id",
  "model_experiment_variant_version"."variant_id",
  "model_experiment_variant_version"."upstream",
  "model_experiment_variant_version"."effective_at",
  "model_experiment_variant_version"."created_by",
  "model_experiment_variant_version"."created_at"
FROM
  "model_experiment_variant_version"
WHERE
  (
    (
      "model_experiment_variant_version"."variant_id" = $1
    )
    AND (
      ROW (
        "model_experiment_variant_version"."effective_at",
        "model_experiment_variant_version"."id"
      ) < ROW ($2, $3)
    )
  )
ORDER BY
  "model_experiment_variant_version"."effective_at" DESC,
  "model_experiment_variant_version"."id" DESC
LIMIT
  $4
