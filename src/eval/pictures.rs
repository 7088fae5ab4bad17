//! What a log shows, as pictures.
//!
//! Pure: a header and records in, SVG out.

use super::{
    Role,
    log::{Header, Record, SystemHeader},
    plot::{self, Curve, Labels, PlotError},
    stats::{self, Estimate, Part},
    summary,
};

/// The pictures of a run, by the names of their files: for each figure its quality against its
/// cost, and how far members agree along texts.
///
/// # Errors
/// If one cannot be drawn.
pub fn of(header: &Header, records: &[Record]) -> Result<Vec<(String, String)>, PlotError> {
    let costs = summary::costs(header, records);
    let mut pictures = Vec::new();
    for figure in summary::figures(header, records) {
        let name = format!("{}, {}", figure.task, figure.metric.name);
        let better = if figure.metric.lower_is_better { "lower" } else { "higher" };
        let systems: Vec<plot::System> = figure
            .rows
            .iter()
            .filter_map(|row| {
                let same =
                    |cost: &&summary::Cost| cost.task == figure.task && cost.system == row.system;
                let cost = costs.iter().find(same)?;
                Some(plot::System {
                    name: row.system.clone(),
                    cost: 1000.0 * cost.seconds / cost.tokens.max(1) as f64,
                    quality: row.figure,
                })
            })
            .collect();
        let labels = Labels {
            title: &name,
            x: "milliseconds a token",
            y: &format!("{}, {better} is better", figure.metric.name),
        };
        pictures.push((file(&name), plot::quality_against_cost(labels, &systems)?));
    }
    // How members agree on a text does not depend on how they are fused; copies always do.
    let of_others = |(at, system): &(usize, &SystemHeader)| {
        let is_copies = system.role == Role::Copies;
        !is_copies && !header.systems[..*at].iter().any(|before| before.members == system.members)
    };
    let first = header.systems.iter().enumerate().filter(of_others);
    let curves: Vec<Curve> =
        first.filter_map(|(_, system)| curve(header, records, &system.name)).collect();
    if !curves.is_empty() {
        let labels = Labels {
            title: "agreement of the members along texts",
            x: "bytes from the beginning",
            y: "agreement, from 0 to 1",
        };
        pictures.push(("agreement.svg".to_owned(), plot::over_position(labels, &curves)?));
    }
    Ok(pictures)
}

/// A name as that of a file.
fn file(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let dashed: String = name.chars().map(plain).collect();
    let parts: Vec<&str> = dashed.split('-').filter(|part| !part.is_empty()).collect();
    format!("{}.svg", parts.join("-"))
}

/// The agreement of a system's members along all texts; `None` of those that have one member.
fn curve(header: &Header, records: &[Record], system: &str) -> Option<Curve> {
    let mut bins: Vec<(f64, Vec<Part>)> = Vec::new();
    for record in records.iter().filter(|record| record.system == system) {
        let width = record.detail.get("bin").and_then(serde_json::Value::as_f64);
        let values = record.detail.get("agreement").and_then(serde_json::Value::as_array);
        let (Some(width), Some(values)) = (width, values) else { continue };
        for (at, value) in values.iter().enumerate() {
            if bins.len() <= at {
                bins.push(((at as f64 + 0.5) * width, Vec::new()));
            }
            bins[at].1.extend(value.as_f64().map(Part::one));
        }
    }
    let points: Vec<(f64, Estimate)> = bins
        .iter()
        .map(|(position, parts)| (*position, stats::estimate(parts, Some((0.0, 1.0)), header.seed)))
        .collect();
    (!points.is_empty()).then(|| Curve { name: system.to_owned(), points })
}
