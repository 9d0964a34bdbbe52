//! A number that nobody checked, as a weight.

use model_experiments::operations::structure;
use model_experiments::tables::variants::Variant;
use model_experiments::values::VariantId;
use model_experiments::{AsyncPgConnection, Result};

async fn double(conn: &mut AsyncPgConnection, variant: VariantId) -> Result<Variant> {
    structure::set_weight(conn, variant, 2).await
}

fn main() {}
