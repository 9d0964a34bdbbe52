//! A weight is changed, whether or not the experiment is still a draft.

use model_experiments::tables::variants::{self, Variant};
use model_experiments::values::{VariantId, Weight};
use model_experiments::{AsyncPgConnection, Result};

async fn grow(
    conn: &mut AsyncPgConnection,
    id: VariantId,
    weight: Weight,
) -> Result<Option<Variant>> {
    variants::set_weight(conn, id, weight).await
}

fn main() {}
