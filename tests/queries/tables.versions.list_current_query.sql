SELECT
  "model_experiment_variant"."id",
  "model_experiment_variant"."experiment_id",
  "model_experiment_variant"."label",
  "model_experiment_variant"."weight",
  "model_experiment_variant"."created_at",
  "model_experiment_variant"."updated_at",
  "model_experiment_variant_version"."id",
  "model_experiment_variant_version"."variant_id",
  "model_experiment_variant_version"."upstream",
  "model_experiment_variant_version"."effective_at",
  "model_experiment_variant_version"."created_by",
  "model_experiment_variant_version"."created_at"
FROM
  (
    "model_experiment_variant"
    LEFT OUTER JOIN "model_experiment_variant_version" ON (
      "model_experiment_variant_version"."id" = (
        SELECT
          "newest"."id"
        FROM
          "model_experiment_variant_version" AS "newest"
        WHERE
          (
            (
              "newest"."variant_id" = "model_experiment_variant"."id"
            )
            AND (
              "newest"."effective_at" = (
                SELECT
                  "earlier"."effective_at"
                FROM
                  "model_experiment_variant_version" AS "earlier"
                WHERE
                  (
                    (
                      "earlier"."variant_id" = "model_experiment_variant"."id"
                    )
                    AND (
                      "earlier"."effective_at" <= greatest(
                        statement_timestamp(),
                        $1,
                        "earlier"."created_at"
                      )
                    )
                  )
                ORDER BY
                  "earlier"."effective_at" DESC
                LIMIT
                  1
              )
            )
          )
        ORDER BY
          "newest"."id" DESC
        LIMIT
          1
      )
    )
  )
WHERE
  ("model_experiment_variant"."experiment_id" = $2)
ORDER BY
  "model_experiment_variant"."id"
