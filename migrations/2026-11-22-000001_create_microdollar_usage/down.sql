-- Drops the usage ledger with its rows. A host that owned the table before never runs this.
-- diesel-guard:disable DropTableCheck
DROP TABLE microdollar_usage;
