//! The ids of a variant, a usage and a version, each where another id is expected.

use model_experiments::experiments::{self, Variant};
use model_experiments::recording::{NewRequest, Request, record};
use model_experiments::{AsyncPgConnection, Result};

async fn swapped(
    conn: &mut AsyncPgConnection,
    variant: &Variant,
    request: &Request,
    new: &NewRequest,
) -> Result<()> {
    experiments::activate(conn, variant.id).await?;
    experiments::find_version(conn, request.usage_id).await?;
    let _ = record::attribute(conn, request.variant_version_id, new).await?;
    Ok(())
}

fn main() {}
