//! Pictures of results, as SVG: quality against cost, and agreement over position.
//!
//! Pure: figures in, the text of a picture out, the same for the same figures.

use std::{io, ops::Range};

use plotters::{
    chart::{ChartBuilder, ChartContext},
    coord::{Shift, types::RangedCoordf64},
    prelude::{
        BLACK, Cartesian2d, Circle, Color, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea,
        IntoFont, LineSeries, PathElement, Polygon, RGBColor, SVGBackend, Text, TextStyle, WHITE,
    },
    style::text_anchor::{HPos, Pos, VPos},
};

use super::stats::Estimate;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Nothing to draw has two finite figures.
    #[error("the picture `{title}` would be empty: none of its points has finite figures")]
    Empty {
        /// The picture's.
        title: String,
    },
    /// The drawing itself failed.
    #[error("cannot draw `{title}`: {reason}")]
    Drawing {
        /// The picture's.
        title: String,
        /// What the drawing said.
        reason: String,
    },
}

/// What stands around a picture.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    pub title: &'a str,
    /// The horizontal axis, with its unit.
    pub x: &'a str,
    /// The vertical axis, with its unit and which way is better.
    pub y: &'a str,
}

/// One system in [`quality_against_cost`].
#[derive(Clone, Debug)]
pub struct System {
    pub name: String,
    pub cost: f64,
    pub quality: Estimate,
}

/// One line of [`over_position`].
#[derive(Clone, Debug)]
pub struct Curve {
    pub name: String,
    /// Positions, rising, with the figure of each and its interval.
    pub points: Vec<(f64, Estimate)>,
}

/// Colours that those see apart who see few (Okabe and Ito 2008, "Color universal design"), less
/// the yellow, which is faint on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

const SIZE: (u32, u32) = (900, 540);
/// The room for names, to the right of the axes.
const LEGEND: u32 = 250;
/// What a line of that room holds.
const NAME: usize = 29;
/// Where the first name stands, and pixels from one to the next, and from line to line of one.
const NAMES: (i32, i32, i32) = (64, 26, 18);
/// Pixels between the columns of two intervals.
const APART: u32 = 14;
const FONT: &str = "sans-serif";

/// Each system as a point with the interval of its quality. Costs begin at 0, so that twice the
/// cost looks it; systems without finite figures are left out.
///
/// # Errors
/// If that leaves none.
pub fn quality_against_cost(labels: Labels<'_>, systems: &[System]) -> Result<String, PlotError> {
    let shown = |system: &&System| system.cost.is_finite() && system.quality.value.is_finite();
    let systems: Vec<&System> = systems.iter().filter(shown).collect();
    let most = systems.iter().map(|system| system.cost).fold(0.0, f64::max);
    let costs = 0.0..if most > 0.0 { most * 1.08 } else { 1.0 };
    let qualities = span(systems.iter().map(|system| &system.quality));
    let Some(qualities) = qualities else { return Err(empty(labels)) };
    picture(labels, |root| {
        let chart = frame(root, labels, costs, qualities)?;
        let mut columns: Vec<i32> = Vec::new();
        let mut below = NAMES.0;
        for (number, system) in systems.iter().enumerate() {
            let mark = Mark::of(number);
            let (mut x, y) = chart.backend_coord(&(system.cost, system.quality.value));
            // Systems that cost the same stand side by side.
            while columns.iter().any(|column| column.abs_diff(x) < APART) {
                x += 1;
            }
            columns.push(x);
            interval(root, &chart, (x, &system.quality), mark)?;
            mark.draw(root, (x, y))?;
            below = legend(root, below, (mark, &system.name))?;
        }
        Ok(())
    })
}

/// Each curve as a line with the intervals of its points; points without finite figures are left
/// out.
///
/// # Errors
/// If that leaves none.
pub fn over_position(labels: Labels<'_>, curves: &[Curve]) -> Result<String, PlotError> {
    let finite = |curve: &Curve| {
        let shown = |(x, y): &&(f64, Estimate)| x.is_finite() && y.value.is_finite();
        curve.points.iter().filter(shown).copied().collect()
    };
    let points: Vec<Vec<(f64, Estimate)>> = curves.iter().map(finite).collect();
    let last = points.iter().flatten().map(|&(x, _)| x).reduce(f64::max);
    let heights = span(points.iter().flatten().map(|(_, figure)| figure));
    let (Some(last), Some(heights)) = (last, heights) else { return Err(empty(labels)) };
    picture(labels, |root| {
        let mut chart = frame(root, labels, 0.0..last.max(1.0) * 1.04, heights)?;
        let mut below = NAMES.0;
        for (number, (curve, points)) in curves.iter().zip(&points).enumerate() {
            let mark = Mark::of(number);
            let line = points.iter().map(|(x, y)| (*x, y.value));
            chart.draw_series(LineSeries::new(line.clone(), mark.colour.stroke_width(2)))?;
            for (position, figure) in points {
                let (x, y) = chart.backend_coord(&(*position, figure.value));
                interval(root, &chart, (x, figure), mark)?;
                mark.draw(root, (x, y))?;
            }
            below = legend(root, below, (mark, &curve.name))?;
        }
        Ok(())
    })
}

fn empty(labels: Labels<'_>) -> PlotError {
    PlotError::Empty { title: labels.title.to_owned() }
}

/// What the intervals cover, with some air; unbounded ends count as the figure itself.
fn span<'a>(figures: impl Iterator<Item = &'a Estimate>) -> Option<Range<f64>> {
    let ends = |it: &Estimate| {
        let finite = |end: f64| if end.is_finite() { end } else { it.value };
        (finite(it.low), finite(it.high))
    };
    let join = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
    let (low, high) = figures.map(ends).reduce(join)?;
    let air = if high > low { (high - low) * 0.08 } else { (high.abs() * 0.1).max(0.1) };
    Some(low - air..high + air)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T> = Result<T, DrawingAreaErrorKind<io::Error>>;

fn picture(
    labels: Labels<'_>,
    draw: impl FnOnce(&Area<'_>) -> Drawn<()>,
) -> Result<String, PlotError> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    let drawn = root.fill(&WHITE).and_then(|()| draw(&root)).and_then(|()| root.present());
    drop(root);
    drawn.map(|()| text).map_err(|error| PlotError::Drawing {
        title: labels.title.to_owned(),
        reason: error.to_string(),
    })
}

/// The axes, left of the room for names.
fn frame<'a>(
    root: &Area<'a>,
    labels: Labels<'_>,
    x: Range<f64>,
    y: Range<f64>,
) -> Drawn<Chart<'a>> {
    let (left, _) = root.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&left)
        .caption(labels.title, (FONT, 22))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_label_formatter(&plain)
        .y_label_formatter(&plain)
        .x_labels(7)
        .y_labels(8)
        .x_desc(labels.x)
        .y_desc(labels.y)
        .axis_desc_style((FONT, 18))
        .label_style((FONT, 16))
        .draw()?;
    Ok(chart)
}

/// A number on an axis, without digits that say nothing.
fn plain(value: &f64) -> String {
    ((value * 1e4).round() / 1e4).to_string()
}

/// The line from one end of a figure's interval to the other, with a stroke across each end that
/// is within the axes.
fn interval(
    root: &Area<'_>,
    chart: &Chart<'_>,
    (x, figure): (i32, &Estimate),
    mark: Mark,
) -> Drawn<()> {
    let axis = chart.y_range();
    let height = |value: f64| {
        let within = value.clamp(axis.start, axis.end);
        chart.backend_coord(&(chart.x_range().start, within)).1
    };
    let style = mark.colour.stroke_width(2);
    let (low, high) = (height(figure.low), height(figure.high));
    root.draw(&PathElement::new([(x, low), (x, high)], style))?;
    for (end, y) in [(figure.low, low), (figure.high, high)] {
        if axis.contains(&end) {
            root.draw(&PathElement::new([(x - 5, y), (x + 5, y)], style))?;
        }
    }
    Ok(())
}

/// A name with its mark, from `y` on; where the next one stands.
fn legend(root: &Area<'_>, y: i32, (mark, name): (Mark, &str)) -> Drawn<i32> {
    let x = (SIZE.0 - LEGEND) as i32 + 12;
    mark.draw(root, (x, y))?;
    let style = TextStyle::from((FONT, 16).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    let (_, apart, apart_lines) = NAMES;
    let mut below = y;
    for (line, at) in lines(name).into_iter().zip(0..) {
        below = y + apart_lines * at;
        root.draw(&Text::new(line, (x + 14, below), style.clone()))?;
    }
    Ok(below + apart)
}

/// A name in lines that fit, broken where it lists something; what is longer than a line is cut.
fn lines(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split(", ") {
        match lines.last_mut() {
            Some(line) if line.chars().count() + part.chars().count() + 3 <= NAME => {
                *line += &format!(", {part}");
            }
            last => {
                if let Some(line) = last {
                    line.push(',');
                }
                lines.push(part.to_owned());
            }
        }
    }
    for line in &mut lines {
        if line.chars().count() > NAME {
            *line = line.chars().take(NAME - 1).chain(['\u{2026}']).collect();
        }
    }
    lines
}

/// How one system or curve looks: by colour, and by shape for those who print in grey.
#[derive(Clone, Copy)]
struct Mark {
    colour: RGBColor,
    shape: usize,
}

impl Mark {
    fn of(number: usize) -> Self {
        Self { colour: COLOURS[number % COLOURS.len()], shape: number % 4 }
    }

    fn draw(self, root: &Area<'_>, (x, y): (i32, i32)) -> Drawn<()> {
        let fill = self.colour.filled();
        let corners = match self.shape {
            0 => return root.draw(&Circle::new((x, y), 6, fill)),
            1 => vec![(x - 5, y - 5), (x + 5, y - 5), (x + 5, y + 5), (x - 5, y + 5)],
            2 => vec![(x, y - 7), (x + 7, y + 6), (x - 7, y + 6)],
            _ => vec![(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)],
        };
        root.draw(&Polygon::new(corners, fill))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels<'_> =
        Labels { title: "HellaSwag", x: "GB read a token", y: "right (higher is better)" };

    fn estimate(value: f64, around: f64) -> Estimate {
        Estimate { value, low: value - around, high: value + around }
    }

    fn systems() -> Vec<System> {
        let system = |(name, cost, value): &(&str, f64, f64)| System {
            name: (*name).to_owned(),
            cost: *cost,
            quality: estimate(*value, 0.06),
        };
        [
            ("smollm2-135m-instruct", 0.098, 0.42),
            ("qwen2.5-coder-0.5b-instruct", 0.491, 0.39),
            ("duet", 0.589, 0.45),
            ("duet, rule geometric, weights 0.4:0.6, gate 0.9", 0.589, 0.44),
            ("duet <gate & 0.9>", 0.52, 0.43),
        ]
        .iter()
        .map(system)
        .collect()
    }

    /// The numbers of an attribute, in the order of the picture.
    fn numbers(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        let elements = svg.split('<').filter(|it| it.starts_with(element));
        let value = |it: &str| {
            let (_, rest) = it.split_once(&format!(" {attribute}=\""))?;
            rest.split('"').next()?.parse().ok()
        };
        elements.filter_map(value).collect()
    }

    #[test]
    fn a_dearer_system_stands_further_right_and_a_better_one_higher() {
        let svg = quality_against_cost(LABELS, &systems()).unwrap();
        assert_eq!(svg, quality_against_cost(LABELS, &systems()).unwrap());
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        // Circles are of the first and the fifth system, each with one in the legend.
        let (x, y) = (numbers(&svg, "circle", "cx"), numbers(&svg, "circle", "cy"));
        assert_eq!(x.len(), 4, "{svg}");
        assert!(x[0] < x[2] && y[0] > y[2], "{x:?} {y:?}");
        // One of the names between has two lines.
        assert_eq!((x[1], y[3] - y[1]), (x[3], 4.0 * 26.0 + 18.0));
        for word in ["HellaSwag", "GB read a token", "higher is better", "smollm2-135m-instruct"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(svg.contains("duet &lt;gate &amp; 0.9&gt;"), "names are text, not markup");
        for line in ["duet, rule geometric,", "weights 0.4:0.6, gate 0.9"] {
            assert!(svg.contains(line), "{line}");
        }
        let cut = lines("a-model-with-a-name-without-an-end, gate 0.5");
        assert_eq!(cut, ["a-model-with-a-name-without-\u{2026}", "gate 0.5"]);
    }

    #[test]
    fn a_picture_of_nothing_is_refused_and_unbounded_intervals_end_at_the_axes() {
        let one = |value, low| System {
            name: "one".to_owned(),
            cost: 1.0,
            quality: Estimate { value, low, high: f64::INFINITY },
        };
        let error = quality_against_cost(LABELS, &[one(f64::NAN, 0.0)]).unwrap_err();
        assert!(matches!(&error, PlotError::Empty { title } if title == "HellaSwag"), "{error}");
        quality_against_cost(LABELS, &[]).unwrap_err();
        over_position(LABELS, &[Curve { name: "one".to_owned(), points: Vec::new() }]).unwrap_err();
        let svg = quality_against_cost(LABELS, &[one(0.5, f64::NEG_INFINITY)]).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn agreement_is_a_line_with_a_point_for_each_position() {
        let curve = |name: &str, first: f64| Curve {
            name: name.to_owned(),
            points: (0..6).map(|i| (f64::from(i) * 50.0, estimate(first, 0.05))).collect(),
        };
        let labels =
            Labels { title: "Agreement", x: "position", y: "share of equal first choices" };
        let curves = [curve("prose", 0.6), curve("code", 0.8)];
        let svg = over_position(labels, &curves).unwrap();
        assert_eq!(numbers(&svg, "circle", "cx").len(), 6 + 1, "and one in the legend");
        assert!(svg.contains(">prose") || svg.contains("prose\n"), "{svg}");
        assert_eq!(svg, over_position(labels, &curves).unwrap());
    }
}
