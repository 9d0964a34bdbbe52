SELECT
  "model_experiment"."id"
FROM
  "model_experiment"
WHERE
  (
    ("model_experiment"."public_model_id" = $1)
    AND (
      ("model_experiment"."status" = 'active')
      OR ("model_experiment"."status" = 'paused')
    )
  )
