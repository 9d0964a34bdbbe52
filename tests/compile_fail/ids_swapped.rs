//! The id of one thing where that of another is asked.

use model_experiments::operations::{lifecycle, record};
use model_experiments::tables::requests::{NewRequest, Request};
use model_experiments::tables::variants::Variant;
use model_experiments::tables::versions;
use model_experiments::{AsyncPgConnection, Result};

async fn swapped(
    conn: &mut AsyncPgConnection,
    variant: &Variant,
    request: &Request,
    new: &NewRequest,
) -> Result<()> {
    lifecycle::activate(conn, variant.id).await?;
    versions::find(conn, request.usage_id).await?;
    let _ = record::attribute(conn, request.variant_version_id, new).await?;
    Ok(())
}

fn main() {}
