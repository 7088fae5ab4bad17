//! What a run shows, as text: for a terminal while it goes, and as Markdown.
//!
//! Pure: rows in, text out.

use std::fmt::Write;

use super::{
    Role, Split,
    log::{Header, MetricHeader, Record},
    run::Plan,
    stats::{self, Estimate},
    summary::{self, Check, Choice, Cost, Figure, Row},
    task::Kind,
};

/// The share of samples that two systems are taken to disagree on, for want of better knowledge.
const DISCORDANCE: f64 = 0.2;
/// How far apart texts are taken to be in the difference of two systems, in bits per byte, and
/// reports in a share: what SmolLM2-135M with Qwen2.5-Coder-0.5B had to its members (0.06 and 0.17;
/// 0.11 to 0.24).
const TEXTS: f64 = 0.17;
const REPORTS: f64 = 0.2;

/// One task's figures for a terminal.
pub fn figures(header: &Header, records: &[Record], task: &str) -> String {
    let mut text = String::new();
    for figure in summary::figures(header, records).iter().filter(|figure| figure.task == task) {
        text += &titled(figure);
        text.push('\n');
        let names = figure.rows.iter().map(|row| row.system.chars().count()).max().unwrap_or(0);
        for row in &figure.rows {
            let figure_of = with_interval(row, &figure.metric);
            let line = format!("  {:names$}  {figure_of:24}  {}", row.system, judged(figure, row));
            text += line.trim_end();
            text.push('\n');
        }
    }
    text
}

/// What differences a run can show, before it is run.
pub fn detectable(plan: &Plan) -> String {
    let mut text =
        "differences that this run shows four times of five, by its test samples:\n".to_owned();
    for task in &plan.tasks {
        let test = task.samples.iter().filter(|sample| sample.split() == Split::Test).count();
        let points = |share: f64| format!("{:.1} points", 100.0 * share);
        let least = match task.kind {
            Kind::BitsPerByte { .. } | Kind::Masses { .. } => {
                format!("{:.3}", stats::detectable_difference(test, TEXTS))
            }
            Kind::Report(_) => points(stats::detectable_difference(test, REPORTS)),
            _ => stats::detectable_share(test, DISCORDANCE).map_or("none".to_owned(), points),
        };
        text += &format!("  {:12} {test:5} samples: {least}\n", task.name);
    }
    text + &format!(
        "(if two systems disagree on {:.0} % of the samples that are right or wrong, and if texts \
         differ by {TEXTS} bits per byte and reports by {:.0} points around their mean difference; \
         before Holm's correction)",
        100.0 * DISCORDANCE,
        100.0 * REPORTS
    )
}

/// Everything as Markdown.
pub fn markdown(header: &Header, records: &[Record]) -> String {
    let figures = summary::figures(header, records);
    let mut text = if figures.is_empty() {
        String::new()
    } else {
        "| task | samples | system | figure | against the best member | p | |\n\
         |---|---|---|---|---|---|---|\n"
            .to_owned()
    };
    for figure in &figures {
        for (at, row) in figure.rows.iter().enumerate() {
            let (task, samples) = match at {
                0 => (named(figure), samples(figure)),
                _ => (String::new(), String::new()),
            };
            let (difference, p, verdict) = match &row.against {
                Some(against) => (
                    difference(&against.difference, &figure.metric),
                    format!("{:.3}", against.adjusted_p),
                    format!("**{}**", against.verdict),
                ),
                None if figure.best.as_ref() == Some(&row.system) => {
                    (String::new(), String::new(), "best on dev".to_owned())
                }
                None => Default::default(),
            };
            let own = with_interval(row, &figure.metric);
            let system = &row.system;
            writeln!(
                text,
                "| {task} | {samples} | {system} | {own} | {difference} | {p} | {verdict} |"
            )
            .expect("a string takes any text");
        }
    }
    text += &grouped(&figures);
    let ensembles = header.systems.iter().filter(|system| system.role == Role::Ensemble).count();
    if ensembles > 1 || figures.is_empty() {
        text += &chosen_by(&summary::choice(header, records));
    }
    text += &spent(&summary::costs(header, records));
    text += &notes(header, records, &figures);
    text
}

fn titled(figure: &Figure) -> String {
    format!("{} ({})", named(figure), samples(figure))
}

fn named(figure: &Figure) -> String {
    format!("{}, {}", figure.task, figure.metric.name)
}

fn samples(figure: &Figure) -> String {
    match figure.chance {
        Some(chance) => format!("{}, by chance {:.1} %", figure.samples, 100.0 * chance),
        None => figure.samples.to_string(),
    }
}

/// A system's own figure with its interval.
fn with_interval(row: &Row, metric: &MetricHeader) -> String {
    let at_most = if row.is_bound { "≤ " } else { "" };
    let told = if metric.is_share {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        told(&row.figure, " %", percent)
    } else {
        told(&row.figure, "", |value| format!("{value:.3}"))
    };
    format!("{at_most}{told}")
}

fn difference(difference: &Estimate, metric: &MetricHeader) -> String {
    if metric.is_share {
        told(difference, "", |share| format!("{:+.1}", 100.0 * share))
    } else {
        told(difference, "", |value| format!("{value:+.3}"))
    }
}

/// A figure and what it lies between, which of one sample is not known.
fn told(estimate: &Estimate, unit: &str, written: impl Fn(f64) -> String) -> String {
    let Estimate { value, low, high } = *estimate;
    let value = written(value);
    if low.is_finite() && high.is_finite() {
        format!("{value}{unit} [{}, {}]", written(low), written(high))
    } else {
        format!("{value}{unit} [one sample]")
    }
}

/// How a row stands to the best member, as far as it is known: what is shown depends on how many
/// figures there will be.
fn judged(figure: &Figure, row: &Row) -> String {
    match &row.against {
        Some(against) => difference(&against.difference, &figure.metric),
        None if figure.best.as_ref() == Some(&row.system) => "best on dev".to_owned(),
        None => String::new(),
    }
}

/// The figures by groups, of those that have some.
fn grouped(figures: &[Figure]) -> String {
    let mut text = String::new();
    for figure in figures {
        let Some(first) = figure.rows.first().filter(|row| !row.groups.is_empty()) else {
            continue;
        };
        let names: Vec<&str> = first.groups.iter().map(|(name, _)| name.as_str()).collect();
        text += &format!("\n{}, by group:\n\n| | {} |\n", named(figure), names.join(" | "));
        text += &format!("|---{}|\n", "|---".repeat(names.len()));
        for row in &figure.rows {
            let at_most = if row.is_bound { "≤ " } else { "" };
            let value = |&(_, value): &(String, f64)| plain(at_most, value, &figure.metric);
            let values: Vec<String> = row.groups.iter().map(value).collect();
            text += &format!("| {} | {} |\n", row.system, values.join(" | "));
        }
    }
    text
}

/// The figures on the dev samples.
fn chosen_by(choice: &Choice) -> String {
    if choice.columns.is_empty() {
        return String::new();
    }
    let names: Vec<String> =
        choice.columns.iter().map(|(task, metric)| format!("{task}, {}", metric.name)).collect();
    let mut text = format!(
        "\nOn the dev samples, to choose by; of the mean ranks the least is the best:\n\n\
         | | {} | mean rank |\n|---{}|\n",
        names.join(" | "),
        "|---".repeat(names.len() + 1)
    );
    for row in &choice.rows {
        let figure = |((_, metric), &value): (&(String, MetricHeader), &f64)| {
            let at_most = if row.is_bound && metric.bound { "≤ " } else { "" };
            plain(at_most, value, metric)
        };
        let figures: Vec<String> = choice.columns.iter().zip(&row.figures).map(figure).collect();
        writeln!(text, "| {} | {} | {:.1} |", row.system, figures.join(" | "), row.mean_rank)
            .expect("a string takes any text");
    }
    text
}

/// A figure without an interval.
fn plain(at_most: &str, value: f64, metric: &MetricHeader) -> String {
    if metric.is_share {
        format!("{at_most}{:.1} %", 100.0 * value)
    } else {
        format!("{at_most}{value:.3}")
    }
}

fn spent(costs: &[Cost]) -> String {
    let mut text =
        "\nWhat it took, all samples asked together as far as the engine takes them. Forwards, and \
         the weights read for them, are those of a token that is written alone:\n\n\
                    | task | system | time | tokens/s | gate rate | forwards a token | \
                    weights read a token |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for cost in costs {
        let speed = cost.tokens as f64 / cost.seconds.max(1e-9);
        let gate = cost.gate_rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.2}"));
        let forwards: Vec<String> =
            cost.forwards.iter().map(|(_, forwards)| format!("{forwards:.2}")).collect();
        writeln!(
            text,
            "| {} | {} | {:.1} s | {speed:.1} | {gate} | {} | {:.0} MB |",
            cost.task,
            cost.system,
            cost.seconds,
            forwards.join(" + "),
            cost.weights_read / 1e6
        )
        .expect("a string takes any text");
    }
    text
}

/// What has to be known to read the tables.
fn notes(header: &Header, records: &[Record], figures: &[Figure]) -> String {
    let mut notes = Vec::new();
    if !figures.is_empty() {
        notes.push(
            "Figures are of test samples, with 95 % intervals (bootstrap over samples). An ensemble \
             is held against the member that is best on the dev samples; p is Holm's over all \
             figures of that ensemble."
                .to_owned(),
        );
    }
    let mut unchosen: Vec<&str> =
        figures.iter().filter(|it| it.best.is_none()).map(|it| it.task.as_str()).collect();
    unchosen.dedup();
    if !unchosen.is_empty() {
        notes.push(format!(
            "Of {} no sample is one to choose the best member by, which the samples' ids decide: \
             nothing is held against one, and copies were not asked. Give more samples.",
            unchosen.join(", ")
        ));
    }
    if figures.iter().any(|figure| figure.rows.iter().any(|row| row.is_bound)) {
        notes.push(
            "≤ is an upper bound: of an ensemble of several vocabularies not all ways to cut a \
             text into pieces are counted. That one is worse cannot be shown by it."
                .to_owned(),
        );
    }
    notes.extend(summary::checks(header, records).iter().map(checked));
    let copies =
        header.systems.iter().filter(|system| system.role == Role::Copies).map(|s| &s.name);
    let copies: Vec<&String> = copies.collect();
    let failed: Vec<String> = summary::failures(records)
        .filter(|(record, _)| !copies.contains(&&record.system))
        .map(|(record, why)| {
            format!("{} {} ({}: {why})", record.task, record.sample, record.system)
        })
        .collect();
    if !failed.is_empty() {
        let shown = failed[..failed.len().min(5)].join("; ");
        notes.push(format!("{} answers have no score, among them {shown}.", failed.len()));
    }
    format!("\n{}\n", notes.join("\n\n"))
}

fn checked(check: &Check) -> String {
    let Check { task, copies, samples, different } = check;
    match different.as_slice() {
        [] => format!("Check: {copies} is that member on all {samples} samples of {task} asked."),
        some => format!(
            "**Check failed**: {copies} is not that member on {} of {samples} samples of {task}: \
             {}.",
            some.len(),
            some.join(", ")
        ),
    }
}
