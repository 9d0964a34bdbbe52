INSERT INTO
  "model_experiment_variant_version" (
    "variant_id",
    "upstream",
    "encrypted_api_key",
    "effective_at",
    "created_by",
    "created_at"
  )
SELECT
  "model_experiment_variant_version"."variant_id",
  "model_experiment_variant_version"."upstream",
  $1,
  $2,
  $3,
  $4
FROM
  "model_experiment_variant_version"
WHERE
  (
    (
      "model_experiment_variant_version"."variant_id" = $5
    )
    AND (
      "model_experiment_variant_version"."effective_at" = (
        SELECT
          "earlier"."effective_at"
        FROM
          "model_experiment_variant_version" AS "earlier"
        WHERE
          (
            ("earlier"."variant_id" = $6)
            AND ("earlier"."effective_at" <= $7)
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
  $8
RETURNING
  "model_experiment_variant_version"."id",
  "model_experiment_variant_version"."variant_id",
  "model_experiment_variant_version"."upstream",
  "model_experiment_variant_version"."effective_at",
  "model_experiment_variant_version"."created_by",
  "model_experiment_variant_version"."created_at"
