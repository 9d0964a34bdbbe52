-- Drops the usage ledger with every row in it. A host that owned the table before never runs this.
-- diesel-guard:disable DropTableCheck
DROP TABLE microdollar_usage;
