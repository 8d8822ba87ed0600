//! The figures of a survey as charts: SVG, and PNG through the fonts of the computer.
//!
//! A chart is drawn for one language, with a title and a source line when it stands alone, and without them inside the
//! report, which has its own. Its [`Hit`]s say which places stand for which products.

mod canvas;
mod png;

use std::path::{Path, PathBuf};

use crate::microdata::Microdata;
use crate::survey::{Frequency, Level, Survey};
use crate::taxonomy::{Id, Lang};

use self::canvas::{Anchor, Canvas, FAINT, GRID, INK, MARK, RULE, UNKNOWN, fitted, ink_on, shade, width};
use super::html::glossary;
use super::{percent, words};

pub use png::Rasterizer;

/// Width of every chart.
const WIDTH: i32 = 960;
/// Size of labels.
const SMALL: i32 = 13;
/// Scenarios on the axes of the heat map.
const HEAT: usize = 14;
/// Bars in one chart.
const BARS: usize = 100;

/// Why a chart cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChartError {
    /// A file cannot be written.
    #[error("Failed to write the chart `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// There is no font to draw letters with.
    #[error(
        "No font is installed to draw PNG charts with; install one, for Chinese for example the package fonts-noto-cjk, or use --chart-format svg"
    )]
    NoFonts,
    /// The renderer refuses the picture.
    #[error("Failed to draw a chart as PNG: {problem}; use --chart-format svg")]
    Png {
        /// Its words.
        problem: String,
    },
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Name, as files and anchors use it.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// The drawing.
    pub svg: String,
    /// The places that stand for products.
    pub hits: Vec<Hit>,
}

/// A rectangle of a chart that stands for a set of products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Left, top, width and height in pixels.
    pub place: (i32, i32, i32, i32),
    /// What is selected: `category`, `scenario`, `pair`, `year`, `model_type` or `developer_type`.
    pub by: &'static str,
    /// Its number or value; two numbers with a hyphen for a pair.
    pub value: String,
    /// The place in words, with its figure.
    pub label: String,
}

/// Format of chart files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum ChartFormat {
    /// Scalable Vector Graphics
    Svg,
    /// Portable Network Graphics
    Png,
}

/// All charts that the survey has data for. `alone` adds the title and the source line.
pub fn charts(survey: &Survey, microdata: &Microdata<'_>, lang: Lang, alone: bool) -> Vec<Chart> {
    let draw = Draw { survey, microdata, lang, alone };
    let say = |zh, en| words(lang, zh, en);
    let all = [
        draw.frequencies(Level::Category, "categories", say("各类别的提及次数", "Mentions by category")),
        draw.frequencies(Level::Scenario, "scenarios", say("被提及场景的次数", "Mentions by scenario")),
        draw.coverage(),
        draw.years(),
        draw.values("model-types", "model_type", say("各类型的产品数", "Products by type"), microdata.by_model_type()),
        draw.values(
            "developer-types",
            "developer_type",
            say("各类研发单位的产品数", "Products by type of developer"),
            microdata.by_developer_type(),
        ),
        draw.co_occurrence(),
    ];
    all.into_iter().flatten().collect()
}

/// Writes charts into a directory, which is made where it is missing. Returns characters that no font has.
///
/// # Errors
/// A file cannot be written, or there is no font for PNG.
pub fn write_charts(charts: &[Chart], directory: &Path, formats: &[ChartFormat]) -> Result<String, ChartError> {
    let write = |name: String, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).map_err(|source| ChartError::Write { path, source })
    };
    let failed = |source| ChartError::Write { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    if formats.contains(&ChartFormat::Svg) {
        charts.iter().try_for_each(|chart| write(format!("{}.svg", chart.name), chart.svg.as_bytes()))?;
    }
    if !formats.contains(&ChartFormat::Png) {
        return Ok(String::new());
    }
    let rasterizer = Rasterizer::new()?;
    for chart in charts {
        write(format!("{}.png", chart.name), &rasterizer.png(&chart.svg)?)?;
    }
    Ok(rasterizer.missing())
}

/// A labelled bar.
struct Bar {
    label: String,
    value: u64,
    note: String,
    selects: String,
    unknown: bool,
}

struct Draw<'a> {
    survey: &'a Survey,
    microdata: &'a Microdata<'a>,
    lang: Lang,
    alone: bool,
}

impl Draw<'_> {
    fn say(&self, zh: &'static str, en: &'static str) -> &'static str {
        words(self.lang, zh, en)
    }

    /// Height of the title and of the source line.
    fn margins(&self) -> (i32, i32) {
        if self.alone { (48, 34) } else { (6, 6) }
    }

    /// Draws a chart of this height between its title and its source line; `draw` gets the canvas and the top.
    fn chart(
        &self,
        name: &'static str,
        title: &str,
        height: i32,
        draw: impl FnOnce(&Canvas<'_>, i32) -> Vec<Hit>,
    ) -> Chart {
        let (top, bottom) = self.margins();
        let mut svg = String::new();
        let canvas = Canvas::new(&mut svg, WIDTH, top + height + bottom, self.lang);
        let hits = draw(&canvas, top);
        if self.alone {
            canvas.heading(title, (12, 24), 18);
            canvas.text(&self.source(), (12, top + height + bottom - 14), 11, FAINT, Anchor::Start);
        }
        canvas.finish();
        Chart { name, title: title.to_owned(), svg, hits }
    }

    fn source(&self) -> String {
        let totals = &self.survey.totals;
        let (n, mentions, taxonomy) = (totals.n_records, totals.n_mentions, &self.survey.taxonomy);
        match self.lang {
            Lang::Zh => format!("{n} 个产品，{mentions} 次提及；分类体系 {taxonomy}；分类器原始计数"),
            Lang::En => format!("{n} products, {mentions} mentions; taxonomy {taxonomy}; raw counts of the classifier"),
        }
    }

    fn rows(&self, level: Level) -> Vec<&Frequency> {
        let mut rows: Vec<&Frequency> = self.survey.frequencies.iter().filter(|row| row.level == level).collect();
        rows.sort_by(|a, b| b.mentions.cmp(&a.mentions).then(a.id.cmp(&b.id)));
        rows
    }

    fn frequencies(&self, level: Level, name: &'static str, title: &str) -> Option<Chart> {
        let by = if level == Level::Category { "category" } else { "scenario" };
        let rows = self.rows(level).into_iter().filter(|row| level == Level::Category || row.mentions > 0);
        let bars: Vec<Bar> = rows
            .map(|row| Bar {
                label: match level {
                    Level::Scenario => format!("{}  {}", row.name.get(self.lang), row.id),
                    _ => row.name.get(self.lang).clone(),
                },
                value: row.mentions,
                note: percent(row.share_of_mentions),
                selects: row.id.to_string(),
                unknown: false,
            })
            .collect();
        self.bars(name, by, title, bars)
    }

    fn values(&self, name: &'static str, by: &'static str, title: &str, rows: Vec<(String, u64)>) -> Option<Chart> {
        let all: u64 = rows.iter().map(|(_, n)| n).sum();
        let bars = rows
            .into_iter()
            .map(|(value, n)| Bar {
                label: glossary(&value, self.lang).to_owned(),
                value: n,
                note: percent(n as f64 / all as f64),
                unknown: value.is_empty() || value == "unknown",
                selects: value,
            })
            .collect();
        self.bars(name, by, title, bars)
    }

    /// Horizontal bars with their figures at the end.
    fn bars(&self, name: &'static str, by: &'static str, title: &str, mut bars: Vec<Bar>) -> Option<Chart> {
        bars.truncate(BARS);
        let most = bars.iter().map(|bar| bar.value).max().filter(|&most| most > 0)?;
        let (row, thickness) = if bars.len() > 20 { (22, 14) } else { (28, 18) };
        let labels = bars.iter().map(|bar| width(&bar.label, SMALL)).max().unwrap_or(0).min(430) + 24;
        let figures = 110;
        let room = f64::from(WIDTH - labels - figures);
        let step = tick(most);
        let height = row * bars.len() as i32 + 30;
        Some(self.chart(name, title, height, |canvas, top| {
            let bottom = top + row * bars.len() as i32 + 4;
            let at = |value: u64| labels + (room * value as f64 / most as f64).round() as i32;
            for value in (0..=most).step_by(step as usize) {
                let colour = if value == 0 { RULE } else { GRID };
                canvas.line((at(value), top), (at(value), bottom), colour);
                canvas.text(&value.to_string(), (at(value), bottom + 13), 11, FAINT, Anchor::Middle);
            }
            let mut hits = Vec::new();
            for (index, bar) in bars.iter().enumerate() {
                let y = top + row * index as i32 + row / 2;
                let (from, to) = ((labels, y - thickness / 2), (at(bar.value), y + thickness / 2));
                let label = fitted(&bar.label, SMALL, labels - 20);
                canvas.text(&label, (labels - 8, y), SMALL, INK, Anchor::End);
                if bar.value > 0 {
                    canvas.rectangle(from, to, if bar.unknown { UNKNOWN } else { MARK });
                }
                let value = bar.value.to_string();
                canvas.text(&value, (to.0 + 6, y), SMALL, INK, Anchor::Start);
                canvas.text(&bar.note, (to.0 + 12 + width(&value, SMALL), y), 11, FAINT, Anchor::Start);
                hits.push(Hit {
                    place: (0, y - row / 2, WIDTH, row),
                    by,
                    value: bar.selects.clone(),
                    label: format!("{}: {} ({})", bar.label, bar.value, bar.note),
                });
            }
            hits
        }))
    }

    /// Columns per year of release.
    fn years(&self) -> Option<Chart> {
        let rows = self.microdata.by_year();
        let most = rows.iter().map(|(_, n)| *n).max().filter(|&most| most > 0)?;
        let (height, foot) = (220, 30);
        let slot = (WIDTH - 60) / rows.len() as i32;
        let thickness = (slot * 3 / 5).clamp(3, 90);
        let step = tick(most);
        let title = self.say("各年发布的产品数", "Products by year of release");
        Some(self.chart("years", title, height + foot, |canvas, top| {
            let ground = top + height;
            let at = |value: u64| ground - (f64::from(height - 24) * value as f64 / most as f64).round() as i32;
            for value in (0..=most).step_by(step as usize) {
                canvas.line((50, at(value)), (WIDTH - 10, at(value)), if value == 0 { RULE } else { GRID });
                canvas.text(&value.to_string(), (42, at(value)), 11, FAINT, Anchor::End);
            }
            let mut hits = Vec::new();
            for (index, (year, n)) in rows.iter().enumerate() {
                let x = 50 + slot * index as i32 + slot / 2;
                let label = if year.is_empty() { self.say("年份不详", "year unknown") } else { year };
                if *n > 0 {
                    let colour = if year.is_empty() { UNKNOWN } else { MARK };
                    canvas.rectangle((x - thickness / 2, at(*n)), (x + thickness / 2, ground), colour);
                }
                canvas.text(&n.to_string(), (x, at(*n) - 10), SMALL, INK, Anchor::Middle);
                if rows.len() <= 16 || index % 4 == 0 || year.is_empty() {
                    canvas.text(label, (x, ground + 14), SMALL, INK, Anchor::Middle);
                }
                hits.push(Hit {
                    place: (x - slot / 2, top, slot, height + foot),
                    by: "year",
                    value: year.clone(),
                    label: format!("{label}: {n}"),
                });
            }
            hits
        }))
    }

    /// One tile per scenario, in rows of categories: what is mentioned how often, and what never.
    fn coverage(&self) -> Option<Chart> {
        const TILE: i32 = 30;
        const PER_ROW: usize = 18;
        /// Number, name and mentions of a scenario.
        type Tile = (Id, String, u64);
        let taxonomy = self.microdata.taxonomy();
        let mentions = |id: Id| {
            let rows = self.survey.frequencies.iter();
            rows.clone().find(|row| row.level == Level::Scenario && row.id == id).map_or(0, |row| row.mentions)
        };
        let rows: Vec<(String, Vec<Tile>)> = taxonomy
            .categories
            .iter()
            .map(|category| {
                let tiles = taxonomy.scenarios.iter().filter(|scenario| scenario.category == category.id);
                let tiles = tiles.map(|entry| (entry.id, entry.name.get(self.lang).clone(), mentions(entry.id)));
                (category.name.get(self.lang).clone(), tiles.collect())
            })
            .collect();
        let most = rows.iter().flat_map(|(_, tiles)| tiles).map(|(_, _, n)| *n).max()?.max(1);
        let labels = rows.iter().map(|(name, _)| width(name, SMALL)).max().unwrap_or(0).min(300) + 70;
        let lines: i32 = rows.iter().map(|(_, tiles)| tiles.len().div_ceil(PER_ROW).max(1) as i32).sum();
        let title = self.say(
            "对指引场景的覆盖：空白格为未被提及的场景",
            "Coverage of the guideline: white tiles are never mentioned",
        );
        Some(self.chart("coverage", title, lines * (TILE + 4) + 34, |canvas, top| {
            let mut y = top;
            let mut hits = Vec::new();
            for (name, tiles) in &rows {
                let touched = tiles.iter().filter(|(_, _, n)| *n > 0).count();
                let label = fitted(name, SMALL, labels - 70);
                canvas.text(&label, (labels - 56, y + TILE / 2), SMALL, INK, Anchor::End);
                let figures = format!("{touched}/{}", tiles.len());
                canvas.text(&figures, (labels - 10, y + TILE / 2), 12, FAINT, Anchor::End);
                for (index, (id, name, n)) in tiles.iter().enumerate() {
                    let x = labels + (index % PER_ROW) as i32 * (TILE + 4);
                    let y = y + (index / PER_ROW) as i32 * (TILE + 4);
                    let (from, to) = ((x, y), (x + TILE, y + TILE));
                    let number = id.to_string();
                    if *n == 0 {
                        canvas.outline(from, to, RULE);
                        canvas.text(&number, (x + TILE / 2, y + TILE / 2), 12, FAINT, Anchor::Middle);
                    } else {
                        // Square roots keep few mentions apart from one another.
                        let colour = shade((*n as f64 / most as f64).sqrt());
                        canvas.rectangle(from, to, colour);
                        canvas.text(&number, (x + TILE / 2, y + TILE / 2), 12, ink_on(colour), Anchor::Middle);
                    }
                    hits.push(Hit {
                        place: (x, y, TILE, TILE),
                        by: "scenario",
                        value: number,
                        label: format!("{id} {name}: {n}"),
                    });
                }
                y += tiles.len().div_ceil(PER_ROW).max(1) as i32 * (TILE + 4);
            }
            canvas.outline((labels, y + 8), (labels + 18, y + 22), RULE);
            let none = self.say("未提及", "none");
            canvas.text(none, (labels + 24, y + 15), 12, FAINT, Anchor::Start);
            self.scale(canvas, (labels + 40 + width(none, 12), y + 8), most, f64::sqrt);
            hits
        }))
    }

    /// Pairs of the most frequent scenarios: the lower triangle, shaded by the products that mention both.
    fn co_occurrence(&self) -> Option<Chart> {
        const CELL: i32 = 34;
        let taxonomy = self.microdata.taxonomy();
        let pairs = self.microdata.co_occurrence();
        let chosen: Vec<&Frequency> =
            self.rows(Level::Scenario).into_iter().filter(|row| row.mentions > 0).take(HEAT).collect();
        let together = |a: Id, b: Id| match (taxonomy.position(a), taxonomy.position(b)) {
            (Some(a), Some(b)) => pairs[a.min(b)][a.max(b)],
            _ => 0,
        };
        let below = || (0..chosen.len()).flat_map(|row| (0..row).map(move |column| (row, column)));
        let most = below().map(|(row, column)| together(chosen[row].id, chosen[column].id)).max()?;
        let most = Some(most).filter(|&most| most > 0)?;
        let name = |row: &Frequency| format!("{}  {}", row.name.get(self.lang), row.id);
        let labels = chosen.iter().map(|row| width(&name(row), SMALL)).max().unwrap_or(0).min(420) + 20;
        let side = CELL * chosen.len() as i32;
        let title = self.say(
            "最常见场景的共现：同时提及两者的产品数",
            "Co-occurrence of the most frequent scenarios: products that mention both",
        );
        Some(self.chart("co-occurrence", title, side + 62, |canvas, top| {
            let mut hits = Vec::new();
            for (row, frequency) in chosen.iter().enumerate() {
                let y = top + CELL * row as i32;
                let label = fitted(&name(frequency), SMALL, labels - 14);
                canvas.text(&label, (labels - 8, y + CELL / 2), SMALL, INK, Anchor::End);
                let number = frequency.id.to_string();
                let x = labels + CELL * row as i32 + CELL / 2;
                canvas.text(&number, (x, y + CELL / 2), 12, FAINT, Anchor::Middle);
                canvas.text(&number, (x, top + side + 12), 12, FAINT, Anchor::Middle);
            }
            for (row, column) in below() {
                let (a, b) = (chosen[row], chosen[column]);
                let n = together(a.id, b.id);
                let (x, y) = (labels + CELL * column as i32, top + CELL * row as i32);
                let (from, to) = ((x + 1, y + 1), (x + CELL - 1, y + CELL - 1));
                if n == 0 {
                    canvas.outline(from, to, GRID);
                } else {
                    let colour = shade(n as f64 / most as f64);
                    canvas.rectangle(from, to, colour);
                    let centre = (x + CELL / 2, y + CELL / 2);
                    canvas.text(&n.to_string(), centre, 12, ink_on(colour), Anchor::Middle);
                }
                hits.push(Hit {
                    place: (x, y, CELL, CELL),
                    by: "pair",
                    value: format!("{}-{}", a.id.min(b.id), a.id.max(b.id)),
                    label: format!("{} + {}: {n}", a.name.get(self.lang), b.name.get(self.lang)),
                });
            }
            self.scale(canvas, (labels, top + side + 32), most, |share| share);
            hits
        }))
    }

    /// A key to the shades, from 1 to the largest value.
    fn scale(&self, canvas: &Canvas<'_>, (x, y): (i32, i32), most: u64, spread: impl Fn(f64) -> f64) {
        let mut values: Vec<u64> = (0..5).map(|step| 1 + (most - 1) * step / 4).collect();
        values.dedup();
        let mut x = x;
        for value in values {
            canvas.rectangle((x, y), (x + 18, y + 14), shade(spread(value as f64 / most as f64)));
            let label = value.to_string();
            canvas.text(&label, (x + 24, y + 7), 12, FAINT, Anchor::Start);
            x += 40 + width(&label, 12);
        }
    }
}

/// A round distance between ticks, so that there are about five of them.
fn tick(most: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if most <= 5 * step * factor {
                return step * factor;
            }
        }
        step *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::Prediction;
    use crate::survey::{Coded, Surveyor};
    use crate::taxonomy::Taxonomy;
    use serde_json::json;

    fn sample(taxonomy: &Taxonomy) -> (Survey, Microdata<'_>) {
        let mut surveyor = Surveyor::new(taxonomy, &[]);
        let mut microdata = Microdata::new(taxonomy);
        for (id, scenarios) in [("a", vec![8, 10]), ("b", vec![8, 10, 39]), ("c", vec![8]), ("d", vec![])] {
            let columns = json!({"released": "2024-05", "model_type": "<b>tcm</b>", "developer_type": "company"});
            let value = json!({"id": id, "status": "coded", "scenarios": scenarios, "columns": columns});
            let prediction: Prediction = serde_json::from_value(value).expect("a prediction");
            let status = prediction.status;
            let coded = Coded { id, status, scenarios: &scenarios, probabilities: &[], truncated: false };
            surveyor.add(&coded, |column| prediction.column(column));
            microdata.add(&prediction);
        }
        (surveyor.finish(taxonomy.label(), String::new(), 0), microdata)
    }

    #[test]
    fn every_figure_has_a_chart_and_every_place_says_what_it_counts() {
        let taxonomy = Taxonomy::builtin();
        let (survey, microdata) = sample(&taxonomy);
        let charts = charts(&survey, &microdata, Lang::En, true);
        let names: Vec<&str> = charts.iter().map(|chart| chart.name).collect();
        assert_eq!(
            names,
            ["categories", "scenarios", "coverage", "years", "model-types", "developer-types", "co-occurrence"]
        );
        let labels = |name: &str| -> Vec<&str> {
            let chart = charts.iter().find(|chart| chart.name == name).expect("a chart");
            chart.hits.iter().map(|hit| hit.label.as_str()).collect()
        };
        assert_eq!(labels("scenarios")[0], "Outpatient triage  8: 3 (50.0%)");
        assert_eq!(labels("coverage").len(), 84);
        assert_eq!(labels("co-occurrence")[0], "Pre-consultation history taking + Outpatient triage: 2");
        assert_eq!(labels("years"), ["2024: 4"]);
        for chart in &charts {
            assert!(chart.svg.starts_with("<svg ") && chart.svg.ends_with("</svg>\n"), "{}", chart.name);
            assert!(!chart.svg.contains("<b>"), "{}", chart.name);
            assert!(chart.svg.contains("raw counts"), "{}", chart.name);
        }
    }

    #[test]
    fn a_survey_of_nothing_has_no_empty_charts() {
        let taxonomy = Taxonomy::builtin();
        let survey = Surveyor::new(&taxonomy, &[]).finish(taxonomy.label(), String::new(), 0);
        let microdata = Microdata::new(&taxonomy);
        let charts = charts(&survey, &microdata, Lang::Zh, false);
        assert_eq!(charts.iter().map(|chart| chart.name).collect::<Vec<_>>(), ["coverage"]);
    }

    #[test]
    fn equal_data_gives_equal_bytes() {
        let taxonomy = Taxonomy::builtin();
        let (survey, microdata) = sample(&taxonomy);
        assert_eq!(charts(&survey, &microdata, Lang::Zh, true), charts(&survey, &microdata, Lang::Zh, true));
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (most, step) in [(1, 1), (5, 1), (7, 2), (12, 5), (68, 20), (430, 100)] {
            assert_eq!(tick(most), step);
        }
    }
}
