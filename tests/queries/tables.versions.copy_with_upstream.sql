INSERT INTO
  "model_experiment_variant_version" (
    "variant_id",
    "upstream",
    "encrypted_api_key",
    "effective_at",
    "created_by"
  )
SELECT
  "model_experiment_variant_version"."variant_id",
  $1,
  "model_experiment_variant_version"."encrypted_api_key",
  $2,
  $3
FROM
  "model_experiment_variant_version"
WHERE
  (
    (
      "model_experiment_variant_version"."variant_id" = $4
    )
    AND (
      "model_experiment_variant_version"."effective_at" <= $5
    )
  )
ORDER BY
  "model_experiment_variant_version"."effective_at" DESC,
  "model_experiment_variant_version"."id" DESC
LIMIT
  $6
RETURNING
  "model_experiment_variant_version"."id",
  "model_experiment_variant_version"."variant_id",
  "model_experiment_variant_version"."upstream",
  "model_experiment_variant_version"."effective_at",
  "model_experiment_variant_version"."created_by",
  "model_experiment_variant_version"."created_at"
