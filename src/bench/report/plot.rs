//! Line charts and bar charts as SVG text: axes with units, spread bars, a legend. Knows no figures of its own.

use std::fmt::Write as _;

/// Inner width and height of a chart, and what surrounds them.
const WIDTH: f64 = 560.0;
const PLOT_HEIGHT: f64 = 230.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 52.0;
/// For the names of the steps and of the axis.
const UNDER: f64 = 40.0;
const LEGEND_ROW: f64 = 18.0;
const LEGEND_COLUMN: f64 = 150.0;
const BAR: f64 = 15.0;
const BAR_GAP: f64 = 7.0;
const BAR_LEFT: f64 = 104.0;
const BAR_RIGHT: f64 = 92.0;

const INK: &str = "#1d2329";
const PALE: &str = "#6b7680";
const GRID: &str = "#e4e8eb";
const AIM: &str = "#b4232a";

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// Whole powers of ten, where the values differ by orders.
    Log,
}

/// A value with its least and most.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Which step of the axis.
    pub step: usize,
    /// The value.
    pub value: f64,
    /// Least.
    pub low: f64,
    /// Most.
    pub high: f64,
}

/// How something is drawn, wherever it is.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Its colour.
    pub colour: &'static str,
    /// Pattern of its line; empty: solid.
    pub dash: &'static str,
    /// Width of its line.
    pub width: f64,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// How it is drawn.
    pub look: Look,
    /// By step.
    pub points: Vec<Point>,
}

/// A line chart over evenly spaced steps.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What the steps are.
    pub x_name: String,
    /// What is measured, with its unit.
    pub y_name: String,
    /// Names of the steps.
    pub steps: Vec<String>,
    /// How values become heights.
    pub scale: Scale,
    /// The lines; those drawn last lie on top.
    pub series: Vec<Series>,
    /// A value that is aimed at, and how it is called.
    pub aim: Option<(f64, String)>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub colour: &'static str,
    /// Its length, with least and most.
    pub point: Point,
}

/// Horizontal bars from zero.
#[derive(Debug, Clone)]
pub struct Bars {
    /// What they show, with the unit.
    pub title: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// A finished drawing.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// Its size.
    pub width: f64,
    /// Its size.
    pub height: f64,
    /// What is inside the `svg` element.
    pub inside: String,
}

impl Drawing {
    /// As a document or an element of a page.
    pub fn svg(&self) -> String {
        let Self { width, height, inside } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"12\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{inside}</svg>\n"
        )
    }

    /// Several side by side, in rows of this many.
    pub fn tiled(drawings: &[Self], columns: usize) -> Self {
        let (mut inside, mut top, mut widest) = (String::new(), 0.0, 0.0_f64);
        for row in drawings.chunks(columns.max(1)) {
            let (mut left, mut highest) = (0.0, 0.0_f64);
            for Self { width, height, inside: drawn } in row {
                put(&mut inside, format_args!("<g transform=\"translate({left:.0} {top:.0})\">{drawn}</g>"));
                left += width;
                highest = highest.max(*height);
            }
            widest = widest.max(left);
            top += highest;
        }
        Self { width: widest, height: top, inside }
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = out.write_fmt(text);
}

/// Text as it may stand in SVG and HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number in few characters: 950, 12.5 k, 3 M.
pub fn brief(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e3 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let decimals = match scaled {
        scaled if scaled >= 99.95 || scaled.fract().abs() < 1e-9 => 0,
        scaled if scaled >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{scaled:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Where the ticks of an axis stand, from its least to its most value.
fn ticks(scale: Scale, low: f64, high: f64) -> Vec<f64> {
    match scale {
        Scale::Log => {
            let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
            (first..=last.max(first + 1)).map(|power| 10_f64.powi(power)).collect()
        }
        Scale::Linear => {
            let rough = high.max(1e-9) / 5.0;
            let unit = 10_f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|times| times * unit).find(|step| *step >= rough);
            let step = step.unwrap_or(rough);
            (0..=(high / step).ceil() as i32).map(|count| f64::from(count) * step).collect()
        }
    }
}

impl Chart {
    /// Draws it.
    pub fn draw(&self) -> Drawing {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let aim = self.aim.as_ref().map(|(value, _)| *value);
        let high = points().map(|point| point.high).chain(aim).fold(f64::MIN_POSITIVE, f64::max);
        let low = points().map(|point| point.low).chain(aim).fold(high, f64::min).max(high * 1e-9);
        let ticks = ticks(self.scale, low, high);
        let (bottom, top) = (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
        let y = |value: f64| {
            let share = match self.scale {
                Scale::Linear => (value - bottom) / (top - bottom),
                Scale::Log => (value.max(bottom) / bottom).log10() / (top / bottom).log10(),
            };
            TOP + PLOT_HEIGHT * (1.0 - share.clamp(0.0, 1.0))
        };
        let wide = (WIDTH - LEFT - RIGHT) / self.steps.len().max(1) as f64;
        let x = |step: usize| LEFT + wide * (step as f64 + 0.5);
        let mut out = String::new();
        self.frame(&mut out, &ticks, &y, &x);
        if let Some((value, name)) = &self.aim {
            let (at, right) = (y(*value), WIDTH - RIGHT);
            put(
                &mut out,
                format_args!(
                    "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{AIM}\" stroke-dasharray=\"6 4\"/><text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{AIM}\" font-size=\"11\">{}</text>",
                    at - 5.0,
                    escaped(name)
                ),
            );
        }
        let count = self.series.len();
        for (place, series) in self.series.iter().enumerate() {
            // Side by side, so that spread bars of the same step do not cover each other.
            let aside = (place as f64 - (count as f64 - 1.0) / 2.0) * (wide * 0.5 / count.max(1) as f64).min(9.0);
            line(&mut out, series, &|step| x(step) + aside, &y);
        }
        let rows = self.legend(&mut out);
        Drawing { width: WIDTH, height: TOP + PLOT_HEIGHT + UNDER + rows as f64 * LEGEND_ROW + 10.0, inside: out }
    }

    fn frame(&self, out: &mut String, ticks: &[f64], y: &dyn Fn(f64) -> f64, x: &dyn Fn(usize) -> f64) {
        let right = WIDTH - RIGHT;
        put(
            out,
            format_args!(
                "<text x=\"14\" y=\"20\" font-size=\"14\" font-weight=\"600\" fill=\"{INK}\">{}</text><text x=\"14\" y=\"36\" font-size=\"11\" fill=\"{PALE}\">{}</text>",
                escaped(&self.title),
                escaped(&self.y_name)
            ),
        );
        for tick in ticks {
            let at = y(*tick);
            put(
                out,
                format_args!(
                    "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{GRID}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{PALE}\">{}</text>",
                    LEFT - 7.0,
                    at + 4.0,
                    brief(*tick)
                ),
            );
        }
        let floor = TOP + PLOT_HEIGHT;
        put(out, format_args!("<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{floor}\" y2=\"{floor}\" stroke=\"{PALE}\"/>"));
        for (step, name) in self.steps.iter().enumerate() {
            put(
                out,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{INK}\">{}</text>",
                    x(step),
                    floor + 16.0,
                    escaped(name)
                ),
            );
        }
        put(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{PALE}\" font-size=\"11\">{}</text>",
                LEFT.midpoint(right),
                floor + 32.0,
                escaped(&self.x_name)
            ),
        );
    }

    /// The names of the lines below; how many rows that took. A line alone needs none.
    fn legend(&self, out: &mut String) -> usize {
        if self.series.len() < 2 {
            return 0;
        }
        let columns = ((WIDTH - 28.0) / LEGEND_COLUMN) as usize;
        // The lines of the foreground are named first.
        for (place, series) in self.series.iter().rev().enumerate() {
            let (left, at) = (
                14.0 + (place % columns) as f64 * LEGEND_COLUMN,
                TOP + PLOT_HEIGHT + UNDER + 12.0 + (place / columns) as f64 * LEGEND_ROW,
            );
            let Look { colour, dash, width } = series.look;
            put(
                out,
                format_args!(
                    "<line x1=\"{left}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dash}\"/><text x=\"{}\" y=\"{}\" fill=\"{INK}\">{}</text>",
                    left + 22.0,
                    left + 28.0,
                    at + 4.0,
                    escaped(&series.name)
                ),
            );
        }
        self.series.len().div_ceil(columns)
    }
}

/// A line with its points and their spread.
fn line(out: &mut String, series: &Series, x: &dyn Fn(usize) -> f64, y: &dyn Fn(f64) -> f64) {
    let Look { colour, dash, width } = series.look;
    let places: Vec<String> =
        series.points.iter().map(|point| format!("{:.1},{:.1}", x(point.step), y(point.value))).collect();
    put(
        out,
        format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dash}\" stroke-linejoin=\"round\"/>",
            places.join(" ")
        ),
    );
    for point in &series.points {
        let (across, at, low, high) = (x(point.step), y(point.value), y(point.low), y(point.high));
        let said = format!("{}: {} ({} to {})", series.name, brief(point.value), brief(point.low), brief(point.high));
        put(
            out,
            format_args!(
                "<g><title>{}</title><path d=\"M{across:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h6M{:.1} {high:.1}h6\" stroke=\"{colour}\" fill=\"none\"/><circle cx=\"{across:.1}\" cy=\"{at:.1}\" r=\"{:.1}\" fill=\"{colour}\"/></g>",
                escaped(&said),
                across - 3.0,
                across - 3.0,
                2.0 + width / 2.0
            ),
        );
    }
}

impl Bars {
    /// Draws them.
    pub fn draw(&self) -> Drawing {
        let most = self.bars.iter().map(|bar| bar.point.high).fold(f64::MIN_POSITIVE, f64::max);
        let long = |value: f64| (WIDTH - BAR_LEFT - BAR_RIGHT) * value / most;
        let mut out = String::new();
        put(
            &mut out,
            format_args!(
                "<text x=\"14\" y=\"20\" font-size=\"14\" font-weight=\"600\" fill=\"{INK}\">{}</text>",
                escaped(&self.title)
            ),
        );
        for (place, Bar { name, colour, point }) in self.bars.iter().enumerate() {
            let at = 36.0 + place as f64 * (BAR + BAR_GAP);
            let (middle, low, high) = (at + BAR / 2.0, BAR_LEFT + long(point.low), BAR_LEFT + long(point.high));
            let text = at + BAR - 3.5;
            put(
                &mut out,
                format_args!(
                    "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\" fill=\"{INK}\">{}</text><rect x=\"{BAR_LEFT}\" y=\"{at}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
                    BAR_LEFT - 8.0,
                    escaped(name),
                    long(point.value)
                ),
            );
            put(
                &mut out,
                format_args!(
                    "<path d=\"M{low:.1} {middle}H{high:.1}M{low:.1} {}v6M{high:.1} {}v6\" stroke=\"{INK}\"/><text x=\"{:.1}\" y=\"{text}\" fill=\"{INK}\">{}</text>",
                    middle - 3.0,
                    middle - 3.0,
                    high + 7.0,
                    brief(point.value)
                ),
            );
        }
        let height = 36.0 + self.bars.len() as f64 * (BAR + BAR_GAP) + 14.0;
        Drawing { width: WIDTH, height, inside: out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_hold_every_value_and_are_round() {
        assert_eq!(ticks(Scale::Linear, 1.0, 49_000.0), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0]);
        assert_eq!(ticks(Scale::Log, 0.3, 45.0), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!([brief(0.25), brief(47_100.0), brief(1e7), brief(184_000.0)], ["0.25", "47.1 k", "10 M", "184 k"]);
    }

    #[test]
    fn a_chart_holds_its_points_within_its_frame_and_its_words_escaped() {
        let points =
            [(0, 1.0), (1, 100.0)].map(|(step, value)| Point { step, value, low: value / 2.0, high: value * 2.0 });
        let look = Look { colour: "#000", dash: "", width: 2.0 };
        let chart = Chart {
            title: "a < b".to_owned(),
            x_name: "x".to_owned(),
            y_name: "ms".to_owned(),
            steps: vec!["1".to_owned(), "2".to_owned()],
            scale: Scale::Log,
            series: vec![Series { name: "s".to_owned(), look, points: points.to_vec() }],
            aim: Some((10.0, "the aim".to_owned())),
        };
        let drawing = chart.draw();
        let svg = drawing.svg();
        assert!(svg.contains("a &lt; b") && svg.contains("the aim"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        for at in svg.split("cy=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok()) {
            assert!((TOP..=TOP + PLOT_HEIGHT).contains(&at), "{at}");
        }
        let tiled = Drawing::tiled(&[drawing.clone(), drawing.clone(), drawing.clone()], 2);
        assert_eq!((tiled.width, tiled.height), (drawing.width * 2.0, drawing.height * 2.0));
    }
}
