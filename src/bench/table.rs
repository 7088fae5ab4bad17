//! The figures for people.

use std::io::{self, Write};

use super::{EnsembleReport, GateSpeed, Load, Memory, ModelReport, Report};

impl Report {
    /// The figures as tables.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.machine)?;
        match self.rounds {
            1 => writeln!(out, "one round")?,
            rounds => writeln!(out, "medians of {rounds} rounds")?,
        }
        self.write_start(out)?;
        if !self.models.is_empty() {
            models(&self.models, out)?;
        }
        self.ensembles.iter().try_for_each(|ensemble| ensemble.write(out))
    }
}

impl Report {
    /// What it took to be ready, as far as that is known.
    fn write_start(&self, out: &mut impl Write) -> io::Result<()> {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        if let Some(Load { seconds, files }) = self.load {
            writeln!(out, "{:.0} MB of weights loaded in {seconds:.2} s", mb(files))?;
        }
        if let Some(Memory { resident, peak }) = self.memory {
            write!(out, "resident after a token of each model: {:.0} MB", mb(resident))?;
            if let Some(Load { files, .. }) = self.load.filter(|load| load.files > 0) {
                write!(out, ", {:.2} of the weights", resident as f64 / files as f64)?;
            }
            writeln!(out, "; the most so far: {:.0} MB", mb(peak))?;
        }
        Ok(())
    }
}

fn models(models: &[ModelReport], out: &mut impl Write) -> io::Result<()> {
    // A model of a short context has fewer columns than another.
    let mut lengths: Vec<usize> =
        models.iter().flat_map(|model| &model.prefill).map(|speed| speed.tokens).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let batches: Vec<usize> = models[0].decode.iter().map(|speed| speed.batch).collect();
    let mut head = vec!["tokens/s".to_owned()];
    head.extend(lengths.iter().map(|length| format!("prefill {length}")));
    head.extend(batches.iter().map(|batch| format!("decode x {batch}")));
    head.push("MB of keys and values a 1000 tokens".to_owned());
    let mut rows = vec![head];
    for model in models {
        let mut row = vec![model.name.clone()];
        row.extend(lengths.iter().map(|&length| {
            let speed = model.prefill.iter().find(|speed| speed.tokens == length);
            speed.map_or_else(String::new, |speed| format!("{:.1}", speed.tokens_per_second))
        }));
        row.extend(model.decode.iter().map(|speed| format!("{:.1}", speed.tokens_per_second)));
        row.push(format!("{:.1}", model.cache_bytes_a_token / 1e3));
        rows.push(row);
    }
    writeln!(out)?;
    write_rows(&rows, out)
}

impl EnsembleReport {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { name, members, lockstep, first_token, gates } = self;
        writeln!(out, "\n{name}: {}", members.join(" + "))?;
        let line = |name: &str, cells: Vec<String>| [vec![name.to_owned()], cells].concat();
        let one = lockstep.first().map_or(1.0, |first| first.tokens_per_second);
        let mut rows = vec![
            line("sequences", lockstep.iter().map(|at| at.batch.to_string()).collect()),
            line(
                "tokens/s",
                lockstep.iter().map(|at| format!("{:.1}", at.tokens_per_second)).collect(),
            ),
            line(
                "of the first",
                lockstep.iter().map(|at| format!("{:.2}", at.tokens_per_second / one)).collect(),
            ),
            line("ms a step", lockstep.iter().map(|at| format!("{:.2}", at.step_ms)).collect()),
        ];
        let parts = lockstep.first().map_or(0, |at| at.parts.len());
        for part in 0..parts {
            let cells = lockstep.iter().map(|at| &at.parts[part]);
            let cells = cells.map(|part| format!("{:.2}  {:5.2} %", part.ms, part.percent));
            rows.push(line(&format!("  {}", lockstep[0].parts[part].name), cells.collect()));
        }
        write_rows(&rows, out)?;
        writeln!(
            out,
            "first token after a prompt of {} tokens: {:.0} ms; where a request before began \
             alike: {:.0} ms, {:.1} %",
            first_token.prompt_tokens,
            first_token.cold_ms,
            first_token.shared_ms,
            100.0 * first_token.ratio,
        )?;
        if !gates.is_empty() {
            let row = |name: &str, cell: &dyn Fn(&GateSpeed) -> String| {
                line(name, gates.iter().map(cell).collect())
            };
            let off = || "off".to_owned();
            let rows = [
                row("gate", &|at| at.gate.map_or_else(off, |gate| gate.to_string())),
                row("tokens/s, one text", &|at| format!("{:.1}", at.tokens_per_second)),
                row("by the primary alone", &|at| format!("{:.1} %", 100.0 * at.gate_rate)),
                row("same text as off for", &|at| format!("{:.1} %", 100.0 * at.same)),
            ];
            writeln!(out)?;
            write_rows(&rows, out)?;
        }
        Ok(())
    }
}

/// The first column to the left, the others to the right.
fn write_rows(rows: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                line.push_str(&format!("{cell:width$}"));
            } else {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{DecodeSpeed, FirstTokenTimes, LockstepSpeed, Machine, Part, PrefillSpeed};

    fn report() -> Report {
        let prefill = |tokens, tokens_per_second| PrefillSpeed { tokens, tokens_per_second };
        let decode = |batch, tokens_per_second| DecodeSpeed { batch, tokens_per_second };
        let gate = |gate, tokens_per_second, gate_rate, same| GateSpeed {
            gate,
            tokens_per_second,
            gate_rate,
            same,
        };
        let part = |name: &str, ms, percent| Part { name: name.to_owned(), ms, percent };
        let step = |batch: usize, step_ms: f64| LockstepSpeed {
            batch,
            tokens_per_second: 1000.0 * batch as f64 / step_ms,
            step_ms,
            parts: vec![
                part("long forward", 0.9 * step_ms, 90.0),
                part("fusion", 0.1 * step_ms, 10.0),
            ],
        };
        Report {
            machine: Machine {
                processor: None,
                cores: 2,
                threads: 1,
                instructions: "AVX2".to_owned(),
                system: "linux x86_64".to_owned(),
            },
            load: Some(Load { seconds: 0.456, files: 500_000_000 }),
            memory: Some(Memory { resident: 540_000_000, peak: 560_000_000 }),
            rounds: 3,
            models: vec![
                ModelReport {
                    name: "long".to_owned(),
                    cache_bytes_a_token: 12_340.0,
                    prefill: vec![prefill(128, 1234.56), prefill(512, 7.0)],
                    decode: vec![decode(1, 20.04), decode(8, 100.0)],
                },
                ModelReport {
                    name: "s".to_owned(),
                    cache_bytes_a_token: 512.0,
                    prefill: vec![prefill(128, 2.0)],
                    decode: vec![decode(1, 3.0), decode(8, 4.0)],
                },
            ],
            ensembles: vec![EnsembleReport {
                name: "duet".to_owned(),
                members: vec!["long".to_owned(), "s".to_owned()],
                lockstep: vec![step(1, 50.0), step(8, 100.0)],
                first_token: FirstTokenTimes {
                    prompt_tokens: 260,
                    cold_ms: 2000.0,
                    shared_ms: 150.0,
                    ratio: 0.075,
                },
                gates: vec![gate(None, 20.0, 0.0, 1.0), gate(Some(0.75), 30.0, 0.5, 0.25)],
            }],
        }
    }

    #[test]
    fn the_table_has_every_figure_in_its_column() {
        let mut out = Vec::new();
        report().write(&mut out).unwrap();
        let expected = "\
a processor without a name, 1 of 2 cores, AVX2, linux x86_64
medians of 3 rounds
500 MB of weights loaded in 0.46 s
resident after a token of each model: 540 MB, 1.08 of the weights; the most so far: 560 MB

tokens/s  prefill 128  prefill 512  decode x 1  decode x 8  MB of keys and values a 1000 tokens
long           1234.6          7.0        20.0       100.0                                 12.3
s                 2.0                      3.0         4.0                                  0.5

duet: long + s
sequences                    1               8
tokens/s                  20.0            80.0
of the first              1.00            4.00
ms a step                50.00          100.00
  long forward  45.00  90.00 %  90.00  90.00 %
  fusion         5.00  10.00 %  10.00  10.00 %
first token after a prompt of 260 tokens: 2000 ms; where a request before began alike: 150 ms, 7.5 %

gate                      off    0.75
tokens/s, one text       20.0    30.0
by the primary alone    0.0 %  50.0 %
same text as off for  100.0 %  25.0 %
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_ensemble_without_its_members_alone_has_one_table() {
        let mut out = Vec::new();
        Report { models: Vec::new(), rounds: 1, ..report() }.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("the most so far: 560 MB\n\nduet: long + s\n"), "{text}");
        assert!(!text.contains("prefill"), "{text}");
    }

    #[test]
    fn what_is_not_known_of_the_start_is_left_out() {
        let mut out = Vec::new();
        Report { load: None, memory: None, ..report() }.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("medians of 3 rounds\n\ntokens/s"), "{text}");
    }

    #[test]
    fn the_json_names_what_the_table_shows() {
        let value = serde_json::to_value(report()).unwrap();
        assert_eq!(value["machine"]["instructions"], "AVX2");
        assert_eq!(value["machine"]["processor"], serde_json::Value::Null);
        assert_eq!(value["load"]["seconds"], 0.456);
        assert_eq!(value["memory"]["resident"], 540_000_000);
        assert_eq!(value["models"][0]["prefill"][1]["tokens"], 512);
        assert_eq!(value["models"][1]["decode"][1]["tokens_per_second"], 4.0);
        let step = &value["ensembles"][0]["lockstep"][1];
        assert_eq!((&step["batch"], &step["step_ms"]), (&8.into(), &100.0.into()));
        assert_eq!(step["parts"][0]["name"], "long forward");
        assert_eq!(step["parts"][0]["percent"], 90.0);
        assert_eq!(value["ensembles"][0]["first_token"]["ratio"], 0.075);
    }
}
