//! How a Word document looks: styles by name, so that a reader can change them at one place.

use docx_rs::{
    AbstractNumbering, BorderType, Docx, Level, LevelJc, LevelText, LineSpacing, NumberFormat,
    ParagraphBorder, ParagraphBorderPosition, ParagraphBorders, ParagraphProperty, RunFonts,
    Shading, SpecialIndentType, Start, Style, StyleType,
};

/// Word's own for what has no other.
pub(super) const BODY: &str = "Normal";
pub(super) const TITLE: &str = "Title";
pub(super) const SUBTITLE: &str = "Subtitle";
/// Of the sections, and of what stands below them.
pub(super) const HEADINGS: [&str; 5] = ["Heading1", "Heading2", "Heading3", "Heading4", "Heading5"];
pub(super) const QUOTE: &str = "Quote";
pub(super) const CODE_BLOCK: &str = "CodeBlock";
pub(super) const GAP: &str = "Gap";
/// Of a line of the contents, and of a table's cell: close to the next.
pub(super) const ENTRY: &str = "Entry";
pub(super) const CELL: &str = "Cell";
pub(super) const SMALL: &str = "Small";
pub(super) const LINK: &str = "Hyperlink";
pub(super) const CODE: &str = "Code";

/// The numberings that every list of their kind begins as.
pub(super) const BULLETS: usize = 1;
pub(super) const NUMBERS: usize = 2;
/// Word's own limit.
pub(super) const DEEPEST: usize = 8;
/// What a list is set in by a level, in twentieths of a point.
pub(super) const STEP: i32 = 400;

/// Colours and sizes as the page has them, for paper.
const SOFT: &str = "66615C";
const ACCENT: &str = "8A3B12";
pub(super) const TINT: &str = "F3F0EB";
/// The height of a line, in 240ths of its letters'.
const LINE: i32 = 285;
const MONOSPACE: &str = "Consolas";

/// The document with all that paragraphs and runs are styled by.
pub(super) fn styled(document: Docx) -> Docx {
    let fonts = RunFonts::new().ascii("Georgia").hi_ansi("Georgia");
    let mut document = document
        .default_fonts(fonts)
        // Half points.
        .default_size(22)
        .default_line_spacing(LineSpacing::new().after(140).line(LINE))
        .add_abstract_numbering(bullets())
        .add_abstract_numbering(numbers());
    for style in paragraphs().into_iter().chain(headings()).chain(characters()) {
        document = document.add_style(style);
    }
    document
}

fn paragraph(id: &str) -> Style {
    Style::new(id, StyleType::Paragraph).name(id).based_on("Normal").next("Normal")
}

fn paragraphs() -> [Style; 8] {
    let quoted = ParagraphProperty::new()
        .indent(Some(STEP), None, None, None)
        .set_borders(border(ParagraphBorderPosition::Left, BorderType::Single));
    let code = ParagraphProperty::new()
        .shading(Shading::new().fill(TINT))
        .line_spacing(LineSpacing::new().after(140).line(240))
        .keep_lines(true);
    let gap = [
        ParagraphBorderPosition::Left,
        ParagraphBorderPosition::Right,
        ParagraphBorderPosition::Top,
        ParagraphBorderPosition::Bottom,
    ];
    let gap = gap.into_iter().fold(ParagraphBorders::with_empty(), |borders, side| {
        borders.set(line(side, BorderType::Dashed))
    });
    let with =
        |style: Style, property: ParagraphProperty| Style { paragraph_property: property, ..style };
    [
        paragraph(TITLE)
            .size(48)
            .bold()
            .fonts(sans())
            .line_spacing(LineSpacing::new().after(80).line(LINE)),
        paragraph(SUBTITLE).size(24).italic().color(SOFT),
        with(paragraph(QUOTE).color(SOFT), quoted),
        with(paragraph(CODE_BLOCK).name("Code Block").size(19).fonts(mono()), code),
        with(paragraph(GAP).color(ACCENT), ParagraphProperty::new().set_borders(gap)),
        paragraph(ENTRY).line_spacing(LineSpacing::new().after(40).line(LINE)),
        paragraph(CELL).line_spacing(LineSpacing::new().before(40).after(40).line(240)),
        paragraph(SMALL).size(17).color(SOFT),
    ]
}

fn headings() -> impl Iterator<Item = Style> {
    let sizes = [32, 26, 23, 22, 22];
    HEADINGS.into_iter().zip(sizes).enumerate().map(|(level, (id, size))| {
        let property = ParagraphProperty::new()
            .keep_next(true)
            .line_spacing(LineSpacing::new().before(300).after(100).line(LINE))
            .outline_lvl(level);
        let style = paragraph(id).name(format!("heading {}", level + 1));
        Style { paragraph_property: property, ..style }.size(size).bold().fonts(sans())
    })
}

fn characters() -> [Style; 2] {
    let style = |id: &str| Style::new(id, StyleType::Character).name(id);
    [style(LINK).color(ACCENT).underline("single"), style(CODE).fonts(mono()).size(20)]
}

fn sans() -> RunFonts {
    RunFonts::new().ascii("Calibri").hi_ansi("Calibri")
}

fn mono() -> RunFonts {
    RunFonts::new().ascii(MONOSPACE).hi_ansi(MONOSPACE).cs(MONOSPACE)
}

pub(super) fn border(side: ParagraphBorderPosition, kind: BorderType) -> ParagraphBorders {
    ParagraphBorders::with_empty().set(line(side, kind))
}

fn line(side: ParagraphBorderPosition, kind: BorderType) -> ParagraphBorder {
    ParagraphBorder::new(side).val(kind).size(8).space(6).color("BBBBBB")
}

fn bullets() -> AbstractNumbering {
    list(BULLETS, |level| (NumberFormat::new("bullet"), ["•", "–", "▪"][level % 3].to_owned()))
}

fn numbers() -> AbstractNumbering {
    list(NUMBERS, |level| (NumberFormat::new("decimal"), format!("%{}.", level + 1)))
}

fn list(id: usize, kind: impl Fn(usize) -> (NumberFormat, String)) -> AbstractNumbering {
    (0..=DEEPEST).fold(AbstractNumbering::new(id), |list, level| {
        let (format, text) = kind(level);
        let hanging = Some(SpecialIndentType::Hanging(STEP * 3 / 4));
        list.add_level(
            Level::new(level, Start::new(1), format, LevelText::new(text), LevelJc::new("left"))
                .indent(Some(inset(level)), hanging, None, None),
        )
    })
}

/// How far the text of a list's level stands in.
pub(super) fn inset(level: usize) -> i32 {
    STEP * (level as i32 + 1)
}
