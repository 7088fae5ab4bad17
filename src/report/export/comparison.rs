//! A comparison as one HTML file: what can be measured in a table, then the texts side by side.

use super::{
    escaped,
    html::{self, push},
};
use crate::report::{
    Measures, Section,
    compare::{Compared, Comparison, Judged, Written},
};

const STYLE: &str = include_str!("comparison.css");

pub(super) fn page(comparison: &Comparison) -> String {
    let Comparison { topic, plan, seed, max_tokens, entries, .. } = comparison;
    let style = format!("{}{STYLE}:root {{ --models: {}; }}\n", html::STYLE, entries.len());
    let mut page = html::beginning(plan, topic, &style);
    push(
        &mut page,
        format_args!(
            "<p>One plan, by {}, written with the seed {seed} by each of these, a section in at \
             most {max_tokens} tokens.</p>\n</header>\n",
            escaped(&entries[0].model)
        ),
    );
    page.push_str(&table(entries));
    for at in 0..entries.iter().filter_map(judged).map(count).max().unwrap_or(0) {
        page.push_str(&part(comparison, at));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn judged(entry: &Compared) -> Option<&Judged> {
    match &entry.outcome {
        Written::Report(judged) => Some(judged),
        Written::Failed { .. } => None,
    }
}

fn count(judged: &Judged) -> usize {
    judged.report.parts().count()
}

/// A measure of a whole report: what it is called, and how it reads.
type Row = (&'static str, fn(&Judged) -> String);

const ROWS: [Row; 14] = [
    ("Written", |of| format!("{} tokens", of.report.facts.usage.completion_tokens)),
    ("Time", |of| {
        let (tokens, seconds) = (of.report.facts.usage.completion_tokens, of.report.facts.seconds);
        let rate = tokens as f64 / seconds.max(f64::MIN_POSITIVE);
        format!("{seconds:.1} s, {rate:.1} tokens/s")
    }),
    ("Agreement of the members", |of| {
        let agreement = of.report.facts.usage.agreement;
        agreement.map_or_else(|| "–".to_owned(), |agreement| format!("{:.2}", agreement.mean))
    }),
    ("Length", |of| format!("{} words, asked for {}", of.overall.units, of.overall.asked)),
    ("Parts at the token limit", |of| of.report.incidents()[0].1.to_string()),
    ("Parts written again", |of| of.report.incidents()[1].1.to_string()),
    ("Parts missing", |of| of.report.incidents()[2].1.to_string()),
    ("Repeated within a part", |of| percent(of.overall.repeated)),
    ("Repeated from earlier parts", |of| percent(of.overall.shared)),
    ("Paragraphs, headings", |of| {
        let structure = of.overall.structure;
        format!("{}, {}", structure.paragraphs, structure.headings)
    }),
    ("List items", |of| of.overall.structure.list_items.to_string()),
    ("Tables, code blocks", |of| {
        let structure = of.overall.structure;
        format!("{}, {}", structure.tables, structure.code_blocks)
    }),
    ("In the plan's language", |of| match of.overall.language_told {
        0 => "cannot be told".to_owned(),
        told => format!("{} of {told} parts", of.overall.language_kept),
    }),
    ("Of the plan's words", |of| percent(of.overall.coverage)),
];

fn table(entries: &[Compared]) -> String {
    let mut table =
        "<div class=\"scrolls\">\n<table class=\"facts\">\n<thead><tr><th></th>".to_owned();
    for entry in entries {
        push(&mut table, format_args!("<th scope=\"col\">{}</th>", escaped(&entry.model)));
    }
    table.push_str("</tr></thead>\n<tbody>\n");
    for (name, value) in ROWS {
        row(&mut table, name, entries, &|of, _| value(of));
    }
    for by in entries {
        let name = format!("Bits per byte for {}", by.model);
        row(&mut table, &name, entries, &|of, model| {
            let scored = of.scores.iter().find(|scored| scored.by == by.model);
            let bits = scored.and_then(|scored| scored.bits_per_byte);
            bits.map_or_else(
                || if model == by.model { "its own" } else { "–" }.to_owned(),
                |bits| format!("{bits:.3}"),
            )
        });
    }
    table.push_str("</tbody>\n</table>\n</div>\n");
    for entry in entries {
        if let Written::Failed { reason } = &entry.outcome {
            let told = escaped(&format!("{}: {reason}", entry.model));
            push(&mut table, format_args!("<p class=\"gap\" role=\"note\">{told}</p>\n"));
        }
    }
    table
}

fn row(
    table: &mut String,
    name: &str,
    entries: &[Compared],
    value: &dyn Fn(&Judged, &str) -> String,
) {
    push(table, format_args!("<tr><th scope=\"row\">{}</th>", escaped(name)));
    for entry in entries {
        let value = judged(entry).map(|of| value(of, &entry.model)).unwrap_or_default();
        push(table, format_args!("<td>{}</td>", escaped(&value)));
    }
    table.push_str("</tr>\n");
}

/// One part by all models.
fn part(comparison: &Comparison, at: usize) -> String {
    let parts: Vec<(&str, &Section, &Measures)> = comparison
        .entries
        .iter()
        .filter_map(|entry| {
            let judged = judged(entry)?;
            let section = judged.report.parts().nth(at)?;
            Some((entry.model.as_str(), section, judged.measures.get(at)?))
        })
        .collect();
    let Some((_, first, _)) = parts.first() else { return String::new() };
    let mut html = format!("<section>\n<h2>{}</h2>\n", escaped(&first.name));
    let planned = comparison.plan.sections.iter().find(|section| section.name == first.name);
    if let Some(about) = planned.map(|planned| &planned.description).filter(|a| !a.is_empty()) {
        push(&mut html, format_args!("<p class=\"about\">{}</p>\n", escaped(about)));
    }
    html.push_str("<div class=\"texts\">\n");
    for (model, section, measures) in parts {
        push(&mut html, format_args!("<article>\n<p class=\"who\">{}</p>\n", escaped(model)));
        html.push_str(&html::text(section));
        push(
            &mut html,
            format_args!("<p class=\"measures\">{}</p>\n</article>\n", escaped(&told(measures))),
        );
    }
    html.push_str("</div>\n</section>\n");
    html
}

fn told(measures: &Measures) -> String {
    let Measures { units, asked, at_limit, repeated, shared, language_kept, coverage, .. } =
        measures;
    let mut told = vec![format!("{units} words of {asked}")];
    if *at_limit {
        told.push("cut at the token limit".to_owned());
    }
    told.push(format!("{} repeated", percent(*repeated)));
    told.push(format!("{} from earlier parts", percent(*shared)));
    if let Some(coverage) = coverage {
        told.push(format!("{} of the plan's words", percent(*coverage)));
    }
    if *language_kept == Some(false) {
        told.push("in another language".to_owned());
    }
    told.join(" · ")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}
