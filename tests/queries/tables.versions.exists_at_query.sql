SELECT
  EXISTS (
    SELECT
      "model_experiment_variant_version"."id"
    FROM
      "model_experiment_variant_version"
    WHERE
      (
        (
          "model_experiment_variant_version"."variant_id" = $1
        )
        AND (
          "model_experiment_variant_version"."effective_at" = $2
        )
      )
  )
