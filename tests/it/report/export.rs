//! A report as documents of several formats.

use serde_json::Value;
use tutti::{
    engine::FinishReason,
    report::{Done, Plan, PlannedSection, Report, ReportRequest, export::Format, write},
};

use super::{
    acts::{Act, acting},
    is_synthesis, own_section, plan_of, request, text_on, with_sections, written,
};

/// A report whose only section says `text`.
async fn saying(text: &str) -> Report {
    let plan = Plan {
        language: "English".to_owned(),
        title: "Things <to> \"know\"".to_owned(),
        sections: vec![PlannedSection {
            name: "This & that".to_owned(),
            description: String::new(),
        }],
    };
    let text = text.to_owned();
    let engine = acting(move |_, _| Act::say(text.clone()));
    let request = ReportRequest { plan: Some(plan), ..request() };
    write(engine, &request, Done::default(), &mut |_| ()).await.unwrap()
}

fn html(report: &Report) -> String {
    String::from_utf8(Format::Html.document(report).unwrap()).unwrap()
}

#[tokio::test]
async fn the_front_matter_is_yaml_without_times() {
    let report = written(&with_sections(|_, _| None)).await;
    let markdown = report.markdown();
    let (front, rest) = markdown.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    assert!(
        rest.starts_with("\n# Scaling Laws\n\n**Contents**\n\n- [Introduction](#introduction)\n")
    );
    for line in [
        "title: \"Scaling Laws\"",
        "topic: \"Create a report on LLM scaling laws\"",
        "model: \"duet\"",
        "members: [\"alpha\", \"beta\"]",
        "fusion: \"alpha + beta, rule mean\"",
        "seed: 7",
        "sections: 3",
        "missing: 0",
    ] {
        assert!(front.lines().any(|l| l == line), "no {line} in {front}");
    }
    assert!(!front.contains("seconds"));
}

#[tokio::test]
async fn the_contents_lead_to_every_part_once() {
    let engine = acting(|_, request| {
        if request.constraint.is_some() {
            Act::say(plan_of(&["What's new?", "Conclusions", "C [x] 数据"]).to_string())
        } else {
            text_on(request)
        }
    });
    let report = written(&engine).await;
    let markdown = report.markdown();
    for link in [
        "- [Introduction](#introduction)\n",
        "- [What's new?](#whats-new)\n",
        "- [Conclusions](#conclusions)\n",
        "- [C \\[x\\] 数据](#c-x-数据)\n",
        "- [Conclusion](#conclusion)\n",
    ] {
        assert_eq!(markdown.matches(link).count(), 1, "{link} in {markdown}");
    }
    let html = html(&report);
    for id in ["introduction", "whats-new", "c-x-数据", "conclusion"] {
        assert_eq!(html.matches(&format!("<h2 id=\"{id}\">")).count(), 1);
        assert_eq!(html.matches(&format!("<a href=\"#{id}\">")).count(), 1);
    }
}

#[tokio::test]
async fn a_plan_with_its_own_introduction_gets_no_second_one() {
    let engine = acting(|_, request| {
        if request.constraint.is_some() {
            Act::say(plan_of(&["Introduction to it", "Data", "Conclusions"]).to_string())
        } else {
            assert!(!is_synthesis(request));
            Act::say(format!("All of {}.", own_section(request)))
        }
    });
    let report = written(&engine).await;
    assert!(report.introduction.is_none() && report.conclusion.is_none());
}

#[tokio::test]
async fn what_a_model_wrote_cannot_act_in_the_page() {
    let report = saying(
        "<script>alert(1)</script>\n\nText <img src=x onerror=alert(2)> and [a](javascript:alert(3)) \
         and [b](JavaScript:x) and ![pic](https://example.com/t.png) and [c](https://example.com/).\n\n\
         <div onclick=\"x\">\nblock\n</div>\n\n```html\n<b>code</b>\n```\n",
    )
    .await;
    let page = html(&report);
    let (_, body) = page.split_once("<body>").unwrap();
    for bad in ["<script", "<img", "<div onclick", "javascript:", "JavaScript:", "<b>"] {
        assert!(!body.contains(bad), "{bad} in {body}");
    }
    assert!(body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(body.contains("<a href=\"https://example.com/\">c</a>"));
    assert!(body.contains("<h1>Things &lt;to&gt; &quot;know&quot;</h1>"));
    assert!(body.contains("<h2 id=\"this--that\">This &amp; that</h2>"));
}

#[tokio::test]
async fn the_page_is_one_file_in_the_reports_language() {
    let report = saying("| a | b |\n|---|---|\n| 1 | 2 |\n").await;
    let page = html(&report);
    assert!(page.contains("<html lang=\"en\" dir=\"ltr\">"), "{page}");
    assert!(page.contains("<table>"), "{page}");
    for outside in ["http:", "https:", "<link", "@import", "url(", " src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    let mut arabic = report;
    arabic.plan.language = "Arabic".to_owned();
    assert!(html(&arabic).contains("<html lang=\"ar\" dir=\"rtl\">"));
}

#[tokio::test]
async fn the_json_has_everything_and_reads_back() {
    let report =
        written(&with_sections(|name, again| (name == "Data" && !again).then(|| Act::say(""))))
            .await;
    let json = Format::Json.document(&report).unwrap();
    assert_eq!(serde_json::from_slice::<Report>(&json).unwrap(), report);
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["sections"][1]["retried"]["fault"], "empty");
    assert_eq!(json["sections"][1]["outcome"]["outcome"], "written");
    assert!(json["sections"][1]["usage"]["completion_tokens"].as_u64().unwrap() > 1);
}

#[test]
fn a_format_is_told_by_the_files_name() {
    let of = |name: &str| Format::of(std::path::Path::new(name));
    assert_eq!(of("a/report").unwrap(), Format::Md);
    assert_eq!(of("report.HTML").unwrap(), Format::Html);
    assert_eq!(of("x.markdown").unwrap(), Format::Md);
    assert_eq!(of("x.docx").unwrap(), Format::Docx);
    let refused = of("report.odt").unwrap_err().to_string();
    assert!(
        refused.contains("`odt`") && refused.contains("md, html, json, docx, pdf"),
        "{refused}"
    );
}

/// A part of a Word document.
fn part(docx: &[u8], name: &str) -> String {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(docx)).unwrap();
    std::io::read_to_string(archive.by_name(name).unwrap()).unwrap()
}

#[tokio::test]
async fn a_word_document_has_what_markdown_says() {
    let report = saying(
        "Some **bold** and *both **of*** them, ~~gone~~ `code` &amp; <b>html</b>\u{1}.\n\n\
         ## Below\n\n- one\n- two\n  1. deep\n\n     more of it\n\n7. seven\n\n> said\n\n\
         ```python\nx = 1\n    y\tz\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n\
         [web](https://example.com/?a=1&b=2) [bad](javascript:alert(1)) ![pic](https://example.com/p)",
    )
    .await;
    let docx = Format::Docx.document(&report).unwrap();
    let properties = part(&docx, "docProps/core.xml");
    let title = "<dc:title>Things &lt;to&gt; &quot;know&quot;</dc:title>";
    assert!(properties.contains(title) && properties.contains("<dc:language>en</dc:language>"));
    let document = part(&docx, "word/document.xml");
    for (style, text) in [
        ("Title", "Things &lt;to&gt; &quot;know&quot;"),
        ("Heading1", "This &amp; that"),
        ("Heading2", "Below"),
        ("Quote", "said"),
        ("CodeBlock", "x = 1"),
    ] {
        let paragraph = document
            .split("</w:p>")
            .find(|paragraph| paragraph.contains(&format!("<w:pStyle w:val=\"{style}\" />")));
        let paragraph = paragraph.unwrap_or_else(|| panic!("no {style} in {document}"));
        assert!(paragraph.contains(&format!(">{text}<")), "{style}: {paragraph}");
    }
    let run = |text: &str| {
        let runs = document.split("</w:r>").find(|run| run.ends_with(&format!(">{text}</w:t>")));
        runs.unwrap_or_else(|| panic!("no {text} in {document}")).rsplit_once("<w:r>").unwrap().1
    };
    assert!(run("bold").contains("<w:b />") && !run("bold").contains("<w:i />"));
    assert!(run("of").contains("<w:b />") && run("of").contains("<w:i />"));
    assert!(run("gone").contains("<w:strike />"));
    assert!(run("code").contains("<w:rStyle w:val=\"Code\" />"));
    assert!(document.contains("&lt;b&gt;") && !document.contains('\u{1}'));
    assert!(document.contains("    y    z"));
    assert_eq!((document.matches("<w:tbl>").count(), document.matches("<w:tc>").count()), (1, 4));
    // Two items, one nested, one of another list: four marks of three lists.
    assert_eq!(document.matches("<w:numPr>").count(), 4);
    let numberings = part(&docx, "word/numbering.xml");
    assert!(numberings.contains("<w:startOverride w:val=\"7\" />"), "{numberings}");
    let links = part(&docx, "word/_rels/document.xml.rels");
    assert!(links.contains("Target=\"https://example.com/?a=1&amp;b=2\""), "{links}");
    assert!(links.contains("Target=\"https://example.com/p\"") && !links.contains("alert"));
    assert_eq!(document.matches("<w:hyperlink ").count(), 2);
}

#[tokio::test]
async fn a_word_document_shows_gaps_and_leads_from_its_contents_to_every_part() {
    let engine = with_sections(|name, _| match name {
        "Data" => Some(Act::say("")),
        "Limits" => Some(Act::Say("They end. And".to_owned(), FinishReason::Length)),
        _ => None,
    });
    let document =
        part(&Format::Docx.document(&written(&engine).await).unwrap(), "word/document.xml");
    for number in 1..=5 {
        assert!(document.contains(&format!("w:anchor=\"part_{number}\"")), "{document}");
        assert!(document.contains(&format!("w:name=\"part_{number}\"")), "{document}");
    }
    assert!(document.contains("This section could not be written: the models wrote no text."));
    assert!(document.contains("This section ends here: its budget of 64 tokens was spent."));
}
