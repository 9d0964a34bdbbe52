INSERT INTO
  "model_experiment_variant_version" (
    "variant_id",
    "upstream",
    "encrypted_api_key",
    "effective_at",
    "created_by",
    "created_at"
  )
VALUES
  ($1, $2, $3, $4, $5, $6)
RETURNING
  "model_experiment_variant_version"."id",
  "model_experiment_variant_version"."variant_id",
  "model_experiment_variant_version"."upstream",
  "model_experiment_variant_version"."effective_at",
  "model_experiment_variant_version"."created_by",
  "model_experiment_variant_version"."created_at"
