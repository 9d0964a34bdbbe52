(
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
        "model_experiment_variant_version"."effective_at" = (
          SELECT
            "earlier"."effective_at"
          FROM
            "model_experiment_variant_version" AS "earlier"
          WHERE
            (
              ("earlier"."variant_id" = $2)
              AND (
                "earlier"."effective_at" <= greatest(
                  statement_timestamp(),
                  $3,
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
    "model_experiment_variant_version"."id" DESC
  LIMIT
    1
)
