//! The results, read from the database.

use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use model_experiments::experiments::{self, Variant, Version};
use model_experiments::reports::feedback;
use model_experiments::reports::summary::{self, Totals, VersionSummary};
use model_experiments::values::{Timestamp, VersionId};
use model_experiments::{AsyncPgConnection, Page};
use std::collections::HashMap;
use std::ops::Range;

use crate::Result;
use crate::gateway::ServedRequest;
use crate::operator::{Draft, StartedVariant};

/// How many client request ids one query looks up.
const BATCH: usize = 1_000;

/// Builds a table of what each version served. Fails unless it adds up to `requests` requests.
pub async fn by_version(
    conn: &mut AsyncPgConnection,
    experiment: &Draft,
    window: &Range<Timestamp>,
    requests: usize,
) -> Result<Table> {
    let summaries = summary::by_version(conn, experiment.id, window).await?;
    let counted: i64 = summaries.iter().map(|summary| summary.totals.requests).sum();
    if counted != i64::try_from(requests)? {
        return Err(format!("{requests} requests were replayed, but {counted} counted").into());
    }
    let by_id: HashMap<_, _> = summaries.iter().map(|summary| (summary.version, summary)).collect();
    let variants = [&experiment.control.variant, &experiment.candidate.variant];
    let weights: i32 = variants.iter().map(|variant| variant.weight.get()).sum();

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
        let of_variant = summaries.iter().filter(|summary| summary.variant == variant.id);
        let served: i64 = of_variant.map(|summary| summary.totals.requests).sum();
        let share = format!(
            "{:.1} %, by weight {:.0} %",
            percent(served as f64, counted as f64),
            percent(variant.weight.get().into(), weights.into())
        );
        for (index, version) in history(conn, variant).await?.iter().enumerate() {
            // Users are bucketed into variants, so all versions of a variant share one percentage.
            let share = if index == 0 { share.clone() } else { String::new() };
            let summary = by_id.get(&version.id).copied();
            table.add_row(row(variant, index + 1, version, share, summary)?);
        }
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(table)
}

fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole
}

fn row(
    variant: &Variant,
    number: usize,
    version: &Version,
    share: String,
    summary: Option<&VersionSummary>,
) -> Result<[String; 9]> {
    let total =
        |of: fn(&Totals) -> i64| summary.map_or(0, |summary| of(&summary.totals)).to_string();
    Ok([
        variant.label.as_str().to_owned(),
        number.to_string(),
        version.upstream()?.internal_id().to_owned(),
        total(|totals| totals.requests),
        share,
        total(|totals| totals.errors),
        total(|totals| totals.input_tokens),
        total(|totals| totals.output_tokens),
        summary.map_or(0, |summary| summary.distinct_users).to_string(),
    ])
}

/// Proves that requests that `swapped` served before the swap still resolve to the old checkpoint.
pub async fn prove_history(
    conn: &mut AsyncPgConnection,
    swapped: &StartedVariant,
    served_before_swap: &[ServedRequest],
) -> Result<String> {
    let of_variant =
        served_before_swap.iter().filter(|served| served.variant == swapped.variant.id);
    let ids: Vec<&str> = of_variant.map(|served| served.client_request_id.as_str()).collect();
    let label = swapped.variant.label.as_str();
    let old = swapped.first_version.upstream()?.internal_id();
    if ids.is_empty() {
        let reason = "served no request before it was swapped, so nothing is proved: replay more";
        return Err(format!("{label} {reason}").into());
    }
    let checkpoints = checkpoints(conn, &swapped.variant).await?;
    if checkpoints.values().all(|checkpoint| checkpoint == old) {
        return Err(format!("{label} was never swapped").into());
    }
    for batch in ids.chunks(BATCH) {
        let found = feedback::served_by(conn, batch).await?;
        if found.len() != batch.len() {
            return Err(format!("found {} of {} requests", found.len(), batch.len()).into());
        }
        for request in found {
            let checkpoint = checkpoints.get(&request.variant_version_id).map(String::as_str);
            if request.variant_version_id != swapped.first_version.id || checkpoint != Some(old) {
                return Err(format!(
                    "request {} was served by {old}, but now resolves to {}",
                    request.client_request_id,
                    checkpoint.unwrap_or("another variant")
                )
                .into());
            }
        }
    }
    Ok(format!(
        "Proved: all {} requests that {label} served before the swap still resolve to {old}",
        ids.len()
    ))
}

/// The checkpoint of each version of a variant.
async fn checkpoints(
    conn: &mut AsyncPgConnection,
    variant: &Variant,
) -> Result<HashMap<VersionId, String>> {
    let versions = history(conn, variant).await?.into_iter();
    let checkpoint =
        |version: Version| Ok((version.id, version.upstream()?.internal_id().to_owned()));
    versions.map(checkpoint).collect()
}

/// The versions of a variant, oldest first.
async fn history(conn: &mut AsyncPgConnection, variant: &Variant) -> Result<Vec<Version>> {
    // The tour publishes fewer versions than fit on a page.
    let mut versions = experiments::list_versions(conn, variant.id, Page::first(100)).await?;
    versions.reverse();
    Ok(versions)
}
