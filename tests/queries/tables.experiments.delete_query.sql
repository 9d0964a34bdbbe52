DELETE FROM
  "model_experiment"
WHERE
  ("model_experiment"."id" = $1)
RETURNING
  "model_experiment"."id"
