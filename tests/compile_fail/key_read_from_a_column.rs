//! A type of the caller reads the key column.

use diesel::deserialize::{self, FromSql};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::Jsonb;
use model_experiments::values::EncryptedApiKey;

struct Key(EncryptedApiKey);

impl FromSql<Jsonb, Pg> for Key {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(EncryptedApiKey::from_sql(value)?))
    }
}

fn main() {}
