INSERT INTO
  "model_experiment_variant" ("experiment_id", "label", "weight")
VALUES
  ($1, $2, $3)
RETURNING
  "model_experiment_variant"."id",
  "model_experiment_variant"."experiment_id",
  "model_experiment_variant"."label",
  "model_experiment_variant"."weight",
  "model_experiment_variant"."created_at",
  "model_experiment_variant"."updated_at"
