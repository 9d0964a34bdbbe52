//! What came of it, as the database tells.

use chrono::{DateTime, Utc};
use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use diesel_async::AsyncPgConnection;
use model_experiments::Page;
use model_experiments::experiments::{self, Variant, Version};
use model_experiments::reports::{feedback, summary};
use model_experiments::values::ExperimentId;
use std::collections::HashMap;
use std::ops::Range;

use crate::Result;
use crate::gateway::Served;
use crate::operator::Arm;

/// How many client request ids are asked about at a time.
const BATCH: usize = 1_000;

/// A table of what each version served, which must be `requests` requests together.
pub async fn by_version(
    conn: &mut AsyncPgConnection,
    experiment: ExperimentId,
    variants: [&Variant; 2],
    window: Range<DateTime<Utc>>,
    requests: usize,
) -> Result<Table> {
    let summaries = summary::by_version(conn, experiment, window).await?;
    let counted: i64 = summaries.iter().map(|summary| summary.totals.requests).sum();
    if counted != i64::try_from(requests)? {
        return Err(format!("{requests} requests were replayed, and {counted} counted").into());
    }
    let by_id: HashMap<_, _> = summaries.iter().map(|summary| (summary.version, summary)).collect();
    let weights: i32 = variants.iter().map(|variant| variant.weight.get()).sum();
    let percent = |part: f64, whole: f64| 100.0 * part / whole;

    let mut table = Table::new();
    table.load_style(ASCII_FULL_CONDENSED).set_header([
        "Variant",
        "Version",
        "Checkpoint",
        "Requests",
        "Variant's share",
        "Errors",
        "Tokens in",
        "Tokens out",
        "Users",
    ]);
    for variant in variants {
        let of_variant: i64 = summaries
            .iter()
            .filter(|summary| summary.variant == variant.id)
            .map(|summary| summary.totals.requests)
            .sum();
        let share = format!(
            "{:.1} %, by weight {:.0} %",
            percent(of_variant as f64, counted as f64),
            percent(variant.weight.get().into(), weights.into())
        );
        for (index, version) in history(conn, variant).await?.iter().enumerate() {
            let served = by_id.get(&version.id);
            let total = |of: fn(&summary::Totals) -> i64| {
                served.map_or(0, |summary| of(&summary.totals)).to_string()
            };
            table.add_row([
                variant.label.as_str().to_owned(),
                (index + 1).to_string(),
                version.upstream.internal_id().to_owned(),
                total(|totals| totals.requests),
                // Users are bucketed into variants, so the share is that of all its versions.
                if index == 0 { share.clone() } else { String::new() },
                total(|totals| totals.errors),
                total(|totals| totals.input_tokens),
                total(|totals| totals.output_tokens),
                served.map_or(0, |summary| summary.distinct_users).to_string(),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(table)
}

/// Looks up what served the requests that `arm` served before it was swapped: its first version, whose
/// checkpoint is still the old one, or else this fails.
pub async fn prove_history(
    conn: &mut AsyncPgConnection,
    arm: &Arm,
    served_before_swap: &[Served],
) -> Result<String> {
    let ids: Vec<&str> = served_before_swap
        .iter()
        .filter(|served| served.variant == arm.variant.id)
        .map(|served| served.client_request_id.as_str())
        .collect();
    let (label, old) = (arm.variant.label.as_str(), arm.first.upstream.internal_id());
    if ids.is_empty() {
        return Err(format!(
            "{label} served no request before it was swapped, which proves nothing: replay more"
        )
        .into());
    }
    let checkpoints: HashMap<_, _> = history(conn, &arm.variant)
        .await?
        .into_iter()
        .map(|version| (version.id, version.upstream.internal_id().to_owned()))
        .collect();
    if checkpoints.values().all(|checkpoint| checkpoint == old) {
        return Err(format!("{label} was never swapped").into());
    }
    let mut resolved = 0;
    for batch in ids.chunks(BATCH) {
        let found = feedback::served_by(conn, batch).await?;
        if found.len() != batch.len() {
            return Err(format!("of {} requests {} were found", batch.len(), found.len()).into());
        }
        for request in found {
            let checkpoint = checkpoints.get(&request.variant_version_id).map(String::as_str);
            if request.variant_version_id != arm.first.id || checkpoint != Some(old) {
                return Err(format!(
                    "request {} was served by {old}, and now resolves to {}",
                    request.client_request_id,
                    checkpoint.unwrap_or("another variant")
                )
                .into());
            }
            resolved += 1;
        }
    }
    Ok(format!(
        "Proved: all {resolved} requests that {label} served before the swap still resolve to {old}"
    ))
}

/// The versions of a variant, oldest first.
async fn history(conn: &mut AsyncPgConnection, variant: &Variant) -> Result<Vec<Version>> {
    // The tour publishes fewer than fit a page.
    let mut versions = experiments::list_versions(conn, variant.id, Page::first(100)).await?;
    versions.reverse();
    Ok(versions)
}
