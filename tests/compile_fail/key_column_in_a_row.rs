//! A struct of the caller loads the key column.

use diesel::pg::Pg;
use diesel::prelude::*;
use model_experiments::schema::model_experiment_variant_version as version;
use model_experiments::values::{EncryptedApiKey, VersionId};

#[derive(Queryable, Selectable)]
#[diesel(table_name = version, check_for_backend(Pg))]
struct Row {
    id: VersionId,
    encrypted_api_key: EncryptedApiKey,
}

fn main() {}
