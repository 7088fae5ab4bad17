//! `tutti vocab show`.

use std::io::{self, Write};

use tutti::{config::Config, ensemble::Ensemble, store::Bars, vocab::VocabSummary};

use super::load;

pub(super) fn show(config: &Config, name: &str, examples: usize) -> anyhow::Result<()> {
    let loaded = load::ensembles(config, &[name], &Bars::stderr())?;
    let (_, ensemble) =
        loaded.ensembles.first().expect("a name that is not known is an error above");
    Ok(write(name, ensemble, examples, &mut io::stdout())?)
}

fn write(name: &str, ensemble: &Ensemble, examples: usize, out: &mut impl Write) -> io::Result<()> {
    let summary = VocabSummary::new(ensemble.union(), ensemble.maps(), examples);
    let names: Vec<&str> = ensemble.members().iter().map(|member| member.name.as_str()).collect();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(6);
    let percent = |part: usize| 100.0 * part as f64 / summary.union as f64;
    writeln!(out, "{name}: a union of {} byte strings and the end of the text", summary.union)?;
    writeln!(out, "{} ({:.1} %) are in every member\n", summary.common, percent(summary.common))?;
    writeln!(
        out,
        "{:width$}  {:>7}  {:>7}  {:>7}  {:>9}  {:>6}  {:>6}",
        "member", "logits", "strings", "share", "only here", "stops", "masked"
    )?;
    for (name, member) in names.iter().zip(&summary.members) {
        writeln!(
            out,
            "{name:width$}  {:>7}  {:>7}  {:>5.1} %  {:>9}  {:>6}  {:>6}",
            member.tokens,
            member.pieces,
            percent(member.pieces),
            member.only,
            member.stops,
            member.masked,
        )?;
    }
    if names.len() > 1 {
        writeln!(out, "\nstrings in common")?;
        for (name, row) in names.iter().zip(&summary.overlaps) {
            let counts: Vec<String> = row.iter().map(|count| format!("{count:>7}")).collect();
            writeln!(out, "{name:width$}  {}", counts.join("  "))?;
        }
        for (name, member) in names.iter().zip(&summary.members) {
            let shown: Vec<String> = member.examples.iter().map(|bytes| quoted(bytes)).collect();
            writeln!(out, "\nonly in {name}, for example\n  {}", shown.join(" "))?;
        }
    }
    Ok(())
}

/// The bytes as text where they are that, escaped where not.
fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("\"{}\"", bytes.escape_ascii()),
    }
}
