SELECT
  statement_timestamp()
