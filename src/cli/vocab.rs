//! `tutti vocab show`.

use std::io::{self, Write};

use tutti::{
    config::Config,
    ensemble,
    store::Bars,
    vocab::{UnionVocab, VocabSummary},
};

use super::load;

pub(super) fn show(config: &Config, names: &[String], examples: usize) -> anyhow::Result<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tokenizers = load::tokenizers(config, &names, &Bars::stderr())?;
    let vocabularies: Vec<_> = tokenizers
        .iter()
        .map(|(_, tokenizer)| ensemble::vocabulary(tokenizer, tokenizer.len()))
        .collect();
    let (union, maps) = UnionVocab::build(&vocabularies);
    let summary = VocabSummary::new(&union, &maps, examples);
    let members: Vec<&str> = tokenizers.iter().map(|(name, _)| name.as_str()).collect();
    Ok(write(&names.join(", "), &members, &summary, &mut io::stdout())?)
}

fn write(
    title: &str,
    names: &[&str],
    summary: &VocabSummary,
    out: &mut impl Write,
) -> io::Result<()> {
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(6);
    let percent = |part: usize| 100.0 * part as f64 / summary.union as f64;
    writeln!(out, "{title}: a union of {} byte strings and the end of the text", summary.union)?;
    writeln!(out, "{} ({:.1} %) are in every member\n", summary.common, percent(summary.common))?;
    writeln!(
        out,
        "{:width$}  {:>7}  {:>7}  {:>7}  {:>9}  {:>6}  {:>6}",
        "member", "tokens", "strings", "share", "only here", "stops", "masked"
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
