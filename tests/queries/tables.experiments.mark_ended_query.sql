UPDATE
  "model_experiment"
SET
  "status" = $1,
  "ended_at" = greatest(
    statement_timestamp(),
    "model_experiment"."started_at"
  ),
  "updated_at" = statement_timestamp()
WHERE
  ("model_experiment"."id" = $2)
RETURNING
  "model_experiment"."id",
  "model_experiment"."public_model_id",
  "model_experiment"."name",
  "model_experiment"."description",
  "model_experiment"."status",
  "model_experiment"."is_archived",
  "model_experiment"."created_by_user_id",
  "model_experiment"."created_at",
  "model_experiment"."updated_at",
  "model_experiment"."started_at",
  "model_experiment"."ended_at"
