//! Markdown's events as the paragraphs and tables of a Word document.

use docx_rs::{
    BorderType, BreakType, Docx, Hyperlink, HyperlinkData, IndentLevel, LevelOverride, Numbering,
    NumberingId, Paragraph, ParagraphBorderPosition, ParagraphChild, Run, Shading, Table,
    TableCell, TableRow, WidthType,
};
use pulldown_cmark::{Event, HeadingLevel, Tag, TagEnd};

use super::{
    directed,
    style::{
        BODY, BULLETS, CELL, CODE, CODE_BLOCK, DEEPEST, HEADINGS, LINK, NUMBERS, QUOTE, TINT,
        border, inset,
    },
};
use crate::report::export::{escaped, events};

/// The whole width of a table, in fiftieths of a percent.
const FULL_WIDTH: usize = 5000;

/// What is written so far, and what is open in it.
#[derive(Default)]
pub(super) struct Writer {
    is_rtl: bool,
    blocks: Vec<Block>,
    /// What the paragraph that comes next has so far.
    children: Vec<ParagraphChild>,
    /// How many of each are open.
    bold: usize,
    italic: usize,
    strike: usize,
    quotes: usize,
    /// The address of the open link and where it begins in `children`.
    link: Option<(String, usize)>,
    links: usize,
    lists: Vec<List>,
    numberings: Vec<Numbering>,
    /// The text of the open code block.
    code: Option<String>,
    /// The open table.
    rows: Option<Rows>,
}

enum Block {
    Paragraph(Box<Paragraph>),
    Table(Box<Table>),
}

struct List {
    numbering: usize,
    /// The item's mark comes with its first paragraph.
    marks: bool,
}

#[derive(Default)]
struct Rows {
    rows: Vec<TableRow>,
    cells: Vec<TableCell>,
    in_head: bool,
}

impl Writer {
    pub(super) fn new(is_rtl: bool) -> Self {
        Self { is_rtl, ..Self::default() }
    }

    pub(super) fn push(&mut self, mut paragraph: Paragraph) {
        paragraph.property = directed(paragraph.property, self.is_rtl);
        self.blocks.push(Block::Paragraph(Box::new(paragraph)));
    }

    /// A paragraph of one text in one style.
    pub(super) fn line(&mut self, style: &str, text: &str) {
        let run = Run::new().add_text(plain(text));
        self.push(Paragraph::new().style(style).add_run(run));
    }

    /// A model's Markdown.
    pub(super) fn markdown(&mut self, markdown: &str) {
        for event in events(markdown) {
            self.take(event);
        }
        self.end_paragraph(None);
    }

    /// The document with all that was written.
    pub(super) fn finish(self, mut document: Docx) -> Docx {
        for numbering in self.numberings {
            document = document.add_numbering(numbering);
        }
        for block in self.blocks {
            document = match block {
                Block::Paragraph(paragraph) => document.add_paragraph(*paragraph),
                Block::Table(table) => document.add_table(*table),
            };
        }
        document
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some(code) => code.push_str(&text),
                None => self.run(Run::new().add_text(plain(&text))),
            },
            Event::Code(text) => self.run(Run::new().style(CODE).add_text(plain(&text))),
            Event::SoftBreak => self.run(Run::new().add_text(" ")),
            Event::HardBreak => self.run(Run::new().add_break(BreakType::TextWrapping)),
            Event::Rule => {
                let line = border(ParagraphBorderPosition::Bottom, BorderType::Single);
                self.end_paragraph(None);
                let mut rule = Paragraph::new().style(BODY);
                rule.property = rule.property.set_borders(line);
                self.push(rule);
            }
            // Raw HTML is text by now, and the rest is not asked of the parser.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Strong => self.bold += 1,
            Tag::Emphasis => self.italic += 1,
            Tag::Strikethrough => self.strike += 1,
            Tag::BlockQuote(_) => {
                self.end_paragraph(None);
                self.quotes += 1;
            }
            Tag::Paragraph | Tag::Heading { .. } | Tag::HtmlBlock => self.end_paragraph(None),
            Tag::Link { dest_url, .. } => {
                self.link = Some((dest_url.into_string(), self.children.len()));
            }
            Tag::CodeBlock(_) => {
                self.end_paragraph(None);
                self.code = Some(String::new());
            }
            Tag::List(first) => self.start_list(first),
            Tag::Item => {
                if let Some(list) = self.lists.last_mut() {
                    list.marks = true;
                }
            }
            Tag::Table(_) => self.rows = Some(Rows::default()),
            Tag::TableHead => {
                if let Some(rows) = &mut self.rows {
                    rows.in_head = true;
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Strong => self.bold -= 1,
            TagEnd::Emphasis => self.italic -= 1,
            TagEnd::Strikethrough => self.strike -= 1,
            TagEnd::BlockQuote(_) => self.quotes -= 1,
            TagEnd::Link => self.end_link(),
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.end_paragraph(None),
            TagEnd::Heading(level) => self.end_paragraph(Some(heading(level))),
            TagEnd::CodeBlock => self.end_code(),
            TagEnd::Item => {
                self.end_paragraph(None);
                if let Some(list) = self.lists.last_mut() {
                    list.marks = false;
                }
            }
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::TableCell => self.end_cell(),
            TagEnd::TableHead | TagEnd::TableRow => {
                if let Some(rows) = &mut self.rows {
                    rows.rows.push(TableRow::new(std::mem::take(&mut rows.cells)).cant_split());
                    rows.in_head = false;
                }
            }
            TagEnd::Table => {
                let rows = self.rows.take().unwrap_or_default().rows;
                let table = Table::new(rows).width(FULL_WIDTH, WidthType::Pct);
                self.blocks.push(Block::Table(Box::new(table)));
                // Two tables, or a table and the page's end, need a paragraph between them.
                self.push(Paragraph::new().style(BODY));
            }
            _ => {}
        }
    }

    fn run(&mut self, run: Run) {
        let is_head = self.rows.as_ref().is_some_and(|rows| rows.in_head);
        let run = if self.bold > 0 || is_head { run.bold() } else { run };
        let run = if self.italic > 0 { run.italic() } else { run };
        let run = if self.strike > 0 { run.strike() } else { run };
        self.children.push(ParagraphChild::Run(Box::new(run)));
    }

    /// Nested lists begin below an item's own text.
    fn start_list(&mut self, first: Option<u64>) {
        self.end_paragraph(None);
        let numbering = NUMBERS + 1 + self.numberings.len();
        let level = self.lists.len().min(DEEPEST);
        self.numberings.push(match first {
            None => Numbering::new(numbering, BULLETS),
            Some(first) => {
                // Each list counts for itself.
                let first = usize::try_from(first).unwrap_or(1);
                let start = LevelOverride::new(level).start(first);
                Numbering::new(numbering, NUMBERS).add_override(start)
            }
        });
        self.lists.push(List { numbering, marks: false });
    }

    /// Numbered here and not by the crate, whose count all threads share without a lock.
    fn end_link(&mut self) {
        let Some((address, start)) = self.link.take() else { return };
        let children = self.children.split_off(start);
        // Within the document a model can lead nowhere: the names of places are ours.
        if address.starts_with('#') {
            self.children.extend(children);
            return;
        }
        self.links += 1;
        let (rid, path) = (format!("rIdHyperlink{}", self.links), escaped(&plain(&address)));
        let styled = children.into_iter().map(|child| match child {
            ParagraphChild::Run(run) => ParagraphChild::Run(Box::new(run.style(LINK))),
            other => other,
        });
        let link = HyperlinkData::External { rid, path };
        let link = Hyperlink { link, history: None, children: styled.collect() };
        self.children.push(ParagraphChild::Hyperlink(link));
    }

    fn end_paragraph(&mut self, heading: Option<&str>) {
        if self.children.is_empty() {
            return;
        }
        let paragraph =
            Paragraph { children: std::mem::take(&mut self.children), ..Paragraph::new() };
        let paragraph = match heading {
            Some(style) => paragraph.style(style),
            None if self.quotes > 0 => paragraph.style(QUOTE),
            None => paragraph.style(BODY),
        };
        let paragraph = self.in_list(paragraph);
        self.push(paragraph);
    }

    /// An item's first paragraph has its mark; those after it stand under its text.
    fn in_list(&mut self, paragraph: Paragraph) -> Paragraph {
        let Some(level) = self.lists.len().checked_sub(1) else { return paragraph };
        let level = level.min(DEEPEST);
        let list = self.lists.last_mut().expect("there is a level");
        if std::mem::take(&mut list.marks) {
            paragraph.numbering(NumberingId::new(list.numbering), IndentLevel::new(level))
        } else {
            paragraph.indent(Some(inset(level)), None, None, None)
        }
    }

    fn end_code(&mut self) {
        let code = self.code.take().unwrap_or_default();
        let mut run = Run::new();
        for (index, line) in code.trim_end_matches('\n').split('\n').enumerate() {
            run = if index > 0 { run.add_break(BreakType::TextWrapping) } else { run };
            run = run.add_text(plain(line));
        }
        let block = self.in_list(Paragraph::new().style(CODE_BLOCK).add_run(run));
        // Code is written from left to right everywhere.
        self.blocks.push(Block::Paragraph(Box::new(block)));
    }

    fn end_cell(&mut self) {
        let children = std::mem::take(&mut self.children);
        let mut paragraph = Paragraph { children, ..Paragraph::new() }.style(CELL);
        paragraph.property = directed(paragraph.property, self.is_rtl);
        let Some(rows) = &mut self.rows else { return };
        let cell = TableCell::new().add_paragraph(paragraph);
        let cell = if rows.in_head { cell.shading(Shading::new().fill(TINT)) } else { cell };
        rows.cells.push(cell);
    }
}

/// The style of a heading, whose level in the document is one more than in Word, where the title
/// is none.
fn heading(level: HeadingLevel) -> &'static str {
    HEADINGS[(level as usize).saturating_sub(2)]
}

/// Without the characters that XML cannot have (XML 1.0, 2.2), and with spaces for tabs, which
/// would be lost.
pub(super) fn plain(text: &str) -> String {
    let spaced = text.replace('\t', "    ");
    spaced
        .chars()
        .filter(|&c| c == '\n' || !c.is_control() && !"\u{fffe}\u{ffff}".contains(c))
        .collect()
}
