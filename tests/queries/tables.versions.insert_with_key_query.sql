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
  "model_experiment_variant_version"."upstream",
  $1,
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
      "model_experiment_variant_version"."effective_at" = (
        SELECT
          "earlier"."effective_at"
        FROM
          "model_experiment_variant_version" AS "earlier"
        WHERE
          (
            ("earlier"."variant_id" = $5)
            AND ("earlier"."effective_at" <= $6)
          )
        ORDER BY
          "earlier"."effective_at" DESC
        LIMIT
          1
      )
    )
  )
ORDER BY
  "model_experiment_variant_version"."id" DESC
LIMIT
  $7
RETURNING
  "model_experiment_variant_version"."id",
  "model_experiment_variant_version"."variant_id",
  "model_experiment_variant_version"."upstream",
  "model_experiment_variant_version"."effective_at",
  "model_experiment_variant_version"."created_by",
  "model_experiment_variant_version"."created_at"
