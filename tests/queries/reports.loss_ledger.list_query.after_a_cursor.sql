SELECT
  "microdollar_usage"."id",
  "microdollar_usage"."kilo_user_id",
  "microdollar_usage"."cost",
  "microdollar_usage"."input_tokens",
  "microdollar_usage"."output_tokens",
  "microdollar_usage"."cache_write_tokens",
  "microdollar_usage"."cache_hit_tokens",
  "microdollar_usage"."created_at",
  "microdollar_usage"."provider",
  "microdollar_usage"."model",
  "microdollar_usage"."requested_model",
  "microdollar_usage"."cache_discount",
  "microdollar_usage"."has_error",
  "microdollar_usage"."abuse_classification",
  "microdollar_usage"."organization_id",
  "microdollar_usage"."inference_provider",
  "microdollar_usage"."project_id"
FROM
  (
    (
      "microdollar_usage"
      INNER JOIN "model_experiment" ON (
        "model_experiment"."public_model_id" = "microdollar_usage"."requested_model"
      )
    )
    LEFT OUTER JOIN "model_experiment_request" ON (
      "model_experiment_request"."usage_id" = "microdollar_usage"."id"
    )
  )
WHERE
  (
    (
      (
        (
          (
            (
              ("model_experiment"."id" = $1)
              AND (
                "microdollar_usage"."created_at" >= "model_experiment"."started_at"
              )
            )
            AND (
              ("model_experiment"."ended_at" IS NULL)
              OR (
                "microdollar_usage"."created_at" < "model_experiment"."ended_at"
              )
            )
          )
          AND ("microdollar_usage"."created_at" >= $2)
        )
        AND ("microdollar_usage"."created_at" < $3)
      )
      AND ("model_experiment_request"."usage_id" IS NULL)
    )
    AND (
      ROW (
        "microdollar_usage"."created_at",
        "microdollar_usage"."id"
      ) > ROW ($4, $5)
    )
  )
ORDER BY
  "microdollar_usage"."created_at",
  "microdollar_usage"."id"
LIMIT
  $6
