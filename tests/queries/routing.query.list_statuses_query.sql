SELECT
  "model_experiment"."id",
  "model_experiment"."status"
FROM
  "model_experiment"
WHERE
  ("model_experiment"."id" = ANY($1))
