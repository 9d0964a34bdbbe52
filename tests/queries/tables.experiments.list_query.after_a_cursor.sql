SELECT
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
FROM
  "model_experiment"
WHERE
  (
    NOT ("model_experiment"."is_archived")
    AND (
      ROW (
        "model_experiment"."created_at",
        "model_experiment"."id"
      ) < ROW ($1, $2)
    )
  )
ORDER BY
  "model_experiment"."created_at" DESC,
  "model_experiment"."id" DESC
LIMIT
  $3
