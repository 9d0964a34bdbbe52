//! A weight is changed, whether or not the experiment is still a draft.

use model_experiments::{AsyncPgConnection, Result};
use model_experiments::experiments::{self, Variant};
use model_experiments::values::{VariantId, Weight};

async fn grow(
    conn: &mut AsyncPgConnection,
    id: VariantId,
    weight: Weight,
) -> Result<Option<Variant>> {
    variants::set_weight(conn, id, weight).await
}

fn main() {}
