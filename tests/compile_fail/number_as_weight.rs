//! An unchecked number as a weight.

use model_experiments::experiments::{self, Variant};
use model_experiments::values::VariantId;
use model_experiments::{AsyncPgConnection, Result};

async fn double(conn: &mut AsyncPgConnection, variant: VariantId) -> Result<Variant> {
    experiments::set_weight(conn, variant, 2).await
}

fn main() {}
