//! One survey beside another: what is alike, what moved, and in which ways the two are not the same kind of thing.
//!
//! The other survey is either a result of this program ([`compare`]) or a published one, of which only those figures are
//! compared that were published ([`compare_published`]). Changes are *this survey minus the other*. Intervals are 95%
//! percentile intervals of a bootstrap over records (Efron and Tibshirani 1993). Records that occur in both surveys are
//! drawn together, so that two coders of the same products are compared as pairs; where one side has counts alone, its
//! counts are held fixed. Intervals speak of the choice of products and not of coding errors.

mod measures;

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::evaluation::{Measure, quantile};
use crate::microdata::{Microdata, Unit};
use crate::published::{Counted, Figure, Named, PublishedSurvey, Source};
use crate::record::json_problem;
use crate::survey::{Level, Survey};
use crate::taxonomy::{Bilingual, Id, Taxonomy};

pub use measures::{kendall, spearman, total_variation};

/// Bootstrap resamples.
pub const RESAMPLES: usize = 1000;

/// Why a result cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComparisonError {
    /// The file is no result of `survey --format json`.
    #[error(
        "`{name}` is not a result that can be compared: {problem}; expected the JSON of `survey --format json`, or coded records (JSONL)"
    )]
    Unreadable {
        /// The file.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// It was counted with another taxonomy.
    #[error(
        "`{name}` was counted with taxonomy `{found}`, and `{expected}` is loaded; compare results of one taxonomy"
    )]
    Taxonomy {
        /// The file.
        name: String,
        /// Its taxonomy.
        found: String,
        /// The one in use.
        expected: String,
    },
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// What it is called: its files.
    pub name: String,
    /// The model that coded it; empty where that is not recorded.
    pub model: String,
    /// Its taxonomy.
    pub taxonomy: String,
    /// Products.
    pub n_records: u64,
    /// Products without a year of release; `None` where years are not at hand.
    pub n_undated: Option<u64>,
    /// First and last year of release.
    pub years: Option<(u16, u16)>,
    /// Mentions of every scenario, in the taxonomy's order.
    pub mentions: Vec<u64>,
    /// Its records, where they are at hand.
    pub units: Option<Vec<Unit>>,
}

impl Side {
    /// A survey whose records are at hand.
    pub fn from_records(name: String, survey: &Survey, microdata: &Microdata<'_>) -> Side {
        let units = microdata.units.clone();
        Side {
            name,
            model: survey.model.clone(),
            taxonomy: survey.taxonomy.clone(),
            n_records: survey.totals.n_records,
            n_undated: Some(units.iter().filter(|unit| unit.year.is_none()).count() as u64),
            years: microdata.years(),
            mentions: count(&units, microdata.taxonomy().len()),
            units: Some(units),
        }
    }

    /// A survey from the JSON that `survey --format json` writes; its records are not at hand.
    ///
    /// # Errors
    /// Other JSON, or another taxonomy.
    pub fn from_json(name: String, json: &str, taxonomy: &Taxonomy) -> Result<Side, ComparisonError> {
        let unreadable = |name: &String, problem: String| ComparisonError::Unreadable { name: name.clone(), problem };
        let result: SurveyFile = serde_json::from_str(json).map_err(|error| unreadable(&name, json_problem(&error)))?;
        if result.taxonomy != taxonomy.label() {
            return Err(ComparisonError::Taxonomy { name, found: result.taxonomy, expected: taxonomy.label() });
        }
        let mut mentions = vec![0; taxonomy.len()];
        for row in result.frequencies.iter().filter(|row| row.level == Level::Scenario) {
            match taxonomy.position(row.id) {
                Some(position) => mentions[position] = row.mentions,
                None => return Err(unreadable(&name, format!("scenario {} is not in the taxonomy", row.id))),
            }
        }
        if mentions.iter().sum::<u64>() != result.totals.n_mentions {
            return Err(unreadable(&name, "the mentions of its scenarios do not add up to `n_mentions`".to_owned()));
        }
        let by_year = result.breakdowns.iter().find(|breakdown| breakdown.column == "year");
        let years = by_year.map(|breakdown| breakdown.groups.iter().filter_map(|group| group.value.parse().ok()));
        let undated = by_year.map(|breakdown| {
            let undated = breakdown.groups.iter().filter(|group| group.value.parse::<u16>().is_err());
            undated.map(|group| group.totals.n_records).sum()
        });
        Ok(Side {
            name,
            model: result.model,
            taxonomy: result.taxonomy,
            n_records: result.totals.n_records,
            n_undated: undated,
            years: years.and_then(|years| {
                let years: Vec<u16> = years.collect();
                Some((*years.iter().min()?, *years.iter().max()?))
            }),
            mentions,
            units: None,
        })
    }

    fn n_mentions(&self) -> u64 {
        self.mentions.iter().sum()
    }
}

/// The parts of a survey's JSON that a comparison reads.
#[derive(Deserialize)]
struct SurveyFile {
    taxonomy: String,
    model: String,
    totals: FileTotals,
    frequencies: Vec<FileFrequency>,
    #[serde(default)]
    breakdowns: Vec<FileBreakdown>,
}

#[derive(Deserialize)]
struct FileTotals {
    n_records: u64,
    n_mentions: u64,
}

#[derive(Deserialize)]
struct FileFrequency {
    level: Level,
    id: Id,
    mentions: u64,
}

#[derive(Deserialize)]
struct FileBreakdown {
    column: String,
    groups: Vec<FileGroup>,
}

#[derive(Deserialize)]
struct FileGroup {
    value: String,
    totals: FileTotals,
}

/// A way in which two surveys cover the same or not, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScopeRow {
    /// What is compared.
    pub aspect: Bilingual,
    /// How it is here.
    pub this: Bilingual,
    /// How it is there.
    pub other: Bilingual,
    /// Whether they differ, as far as words tell.
    pub differs: bool,
}

/// Likeness of two surveys at one level of the taxonomy, over all its entries, mentioned or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Likeness {
    /// The level.
    pub level: Level,
    /// Entries of the taxonomy at that level.
    pub n_entries: usize,
    /// Distance of the shares of mentions; without an interval, since resampling only ever adds distance.
    pub total_variation: Measure,
    /// Spearman's rank correlation of the mentions.
    pub spearman: Measure,
    /// Kendall's tau-b of the mentions.
    pub kendall_tau_b: Measure,
}

/// One entry in two surveys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shift {
    /// Its level.
    pub level: Level,
    /// Its number.
    pub id: Id,
    /// Its name.
    pub name: Bilingual,
    /// Mentions here.
    pub mentions: u64,
    /// Mentions there.
    pub other_mentions: u64,
    /// Share of mentions here, in [0, 1].
    pub share: f64,
    /// Share of mentions there, in [0, 1].
    pub other_share: f64,
    /// Change of the share: here minus there.
    pub change: Measure,
}

/// Two results of this program side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What this survey is called.
    pub this: String,
    /// What the other one is called.
    pub other: String,
    /// How far they cover the same.
    pub scope: Vec<ScopeRow>,
    /// Products that occur in both; `null` where the other's records are not at hand.
    pub n_common: Option<u64>,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Likeness at each level.
    pub likeness: Vec<Likeness>,
    /// All entries that either mentions, by level, those with the largest change first.
    pub shifts: Vec<Shift>,
}

const LEVELS: [Level; 3] = [Level::Section, Level::Category, Level::Scenario];

/// Compares two results of this program.
pub fn compare(this: &Side, other: &Side, taxonomy: &Taxonomy, resamples: usize, seed: u64) -> Comparison {
    let pairs = Pairs::new(this, other);
    let whole = figures(&this.mentions, &other.mentions, taxonomy);
    let samples: Vec<Vec<f64>> = (0..resamples)
        .into_par_iter()
        .map(|sample| {
            let (left, right) = pairs.draw(this, other, seed, sample as u64);
            figures(&left, &right, taxonomy)
        })
        .collect();
    let mut measures = intervals(&whole, &samples).into_iter();
    let mut next = || measures.next().unwrap_or(Measure { value: None, low: None, high: None });
    let mut likeness = Vec::new();
    let mut shifts = Vec::new();
    for level in LEVELS {
        let [left, right] = [&this.mentions, &other.mentions].map(|mentions| at_level(mentions, level, taxonomy));
        let (left_shares, right_shares) = (shares(&left), shares(&right));
        let distance = Measure { low: None, high: None, ..next() };
        let (spearman, kendall_tau_b) = (next(), next());
        likeness.push(Likeness { level, n_entries: left.len(), total_variation: distance, spearman, kendall_tau_b });
        let mut rows: Vec<Shift> = entries(level, taxonomy)
            .into_iter()
            .enumerate()
            .map(|(at, (id, name))| Shift {
                level,
                id,
                name,
                mentions: left[at],
                other_mentions: right[at],
                share: left_shares[at],
                other_share: right_shares[at],
                change: next(),
            })
            .collect();
        rows.retain(|row| row.mentions + row.other_mentions > 0);
        let size = |row: &Shift| (row.share - row.other_share).abs();
        rows.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.id.cmp(&b.id)));
        shifts.extend(rows);
    }
    Comparison {
        this: this.name.clone(),
        other: other.name.clone(),
        scope: scope(this, other),
        n_common: pairs.n_common,
        resamples,
        seed,
        likeness,
        shifts,
    }
}

/// Per level: distance, two rank correlations, and the change of every entry's share; `NaN` where not defined.
fn figures(left: &[u64], right: &[u64], taxonomy: &Taxonomy) -> Vec<f64> {
    let mut figures = Vec::new();
    for level in LEVELS {
        let [left, right] = [left, right].map(|mentions| at_level(mentions, level, taxonomy));
        let (left_shares, right_shares) = (shares(&left), shares(&right));
        let [left, right] = [left, right].map(|counts| counts.iter().map(|&n| n as f64).collect::<Vec<f64>>());
        figures.push(total_variation(&left_shares, &right_shares).unwrap_or(f64::NAN));
        figures.push(spearman(&left, &right).unwrap_or(f64::NAN));
        figures.push(kendall(&left, &right).unwrap_or(f64::NAN));
        let defined = left.iter().sum::<f64>() > 0.0 && right.iter().sum::<f64>() > 0.0;
        let change = |(l, r): (&f64, &f64)| if defined { l - r } else { f64::NAN };
        figures.extend(left_shares.iter().zip(&right_shares).map(change));
    }
    figures
}

fn intervals(whole: &[f64], samples: &[Vec<f64>]) -> Vec<Measure> {
    let measure = |figure: usize| {
        let mut values: Vec<f64> =
            samples.iter().map(|sample| sample[figure]).filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        let value = Some(whole[figure]).filter(|value| !value.is_nan());
        Measure { value, low: quantile(&values, 0.025), high: quantile(&values, 0.975) }
    };
    (0..whole.len()).map(measure).collect()
}

fn entries(level: Level, taxonomy: &Taxonomy) -> Vec<(Id, Bilingual)> {
    match level {
        Level::Section => taxonomy.sections.iter().map(|entry| (entry.id, entry.name.clone())).collect(),
        Level::Category => taxonomy.categories.iter().map(|entry| (entry.id, entry.name.clone())).collect(),
        Level::Scenario => taxonomy.scenarios.iter().map(|entry| (entry.id, entry.name.clone())).collect(),
    }
}

/// Mentions of every entry of a level, from those of the scenarios.
fn at_level(scenarios: &[u64], level: Level, taxonomy: &Taxonomy) -> Vec<u64> {
    if level == Level::Scenario {
        return scenarios.to_vec();
    }
    let above = |category: Id| match level {
        Level::Section => taxonomy.section_of(category).unwrap_or_default(),
        _ => category,
    };
    entries(level, taxonomy)
        .into_iter()
        .map(|(id, _)| {
            let below = taxonomy.scenarios.iter().zip(scenarios);
            below.filter(|(scenario, _)| above(scenario.category) == id).map(|(_, mentions)| mentions).sum()
        })
        .collect()
}

fn shares(counts: &[u64]) -> Vec<f64> {
    let all: u64 = counts.iter().sum();
    counts.iter().map(|&n| if all == 0 { 0.0 } else { n as f64 / all as f64 }).collect()
}

fn count<'u>(units: impl IntoIterator<Item = &'u Unit>, n_scenarios: usize) -> Vec<u64> {
    let mut mentions = vec![0; n_scenarios];
    units.into_iter().flat_map(|unit| &unit.scenarios).for_each(|&scenario| mentions[scenario] += 1);
    mentions
}

/// Which records are drawn together, in strata of fixed size: those of this survey alone, of both, of the other alone.
struct Pairs {
    strata: [Vec<(Option<usize>, Option<usize>)>; 3],
    n_common: Option<u64>,
}

impl Pairs {
    fn new(this: &Side, other: &Side) -> Pairs {
        let left = this.units.as_deref().unwrap_or_default();
        let right = other.units.as_deref().unwrap_or_default();
        let mut there: HashMap<u128, usize> = right.iter().enumerate().map(|(at, unit)| (unit.key, at)).collect();
        let mut strata = [Vec::new(), Vec::new(), Vec::new()];
        for (at, unit) in left.iter().enumerate() {
            match there.remove(&unit.key) {
                Some(other) => strata[1].push((Some(at), Some(other))),
                None => strata[0].push((Some(at), None)),
            }
        }
        strata[2].extend((0..right.len()).filter(|&at| there.contains_key(&right[at].key)).map(|at| (None, Some(at))));
        let n_common = other.units.is_some().then_some(strata[1].len() as u64);
        Pairs { strata, n_common }
    }

    /// Mentions in one resample of both sides; a side without records keeps its counts.
    fn draw(&self, this: &Side, other: &Side, seed: u64, sample: u64) -> (Vec<u64>, Vec<u64>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(sample);
        let mut drawn = [this, other].map(|side| match side.units {
            Some(_) => vec![0; side.mentions.len()],
            None => side.mentions.clone(),
        });
        for stratum in &self.strata {
            for _ in 0..stratum.len() {
                let (left, right) = stratum[random.random_range(0..stratum.len())];
                for (side, (at, mentions)) in [this, other].into_iter().zip([left, right].into_iter().zip(&mut drawn)) {
                    let unit = at.and_then(|at| side.units.as_deref()?.get(at));
                    unit.into_iter().flat_map(|unit| &unit.scenarios).for_each(|&scenario| mentions[scenario] += 1);
                }
            }
        }
        let [left, right] = drawn;
        (left, right)
    }
}

fn bilingual(zh: impl Into<String>, en: impl Into<String>) -> Bilingual {
    Bilingual { zh: zh.into(), en: en.into() }
}

fn same(text: &str) -> Bilingual {
    bilingual(text, text)
}

/// The words for one survey of ours: population, window, products, mentions, coder, unit, taxonomy.
fn described(side: &Side) -> [Bilingual; 7] {
    let undated = match side.n_undated {
        Some(n) if n > 0 => bilingual(format!("，{n} 个无年份"), format!(", {n} without a year")),
        _ => Bilingual::default(),
    };
    let window = match (side.years, side.n_undated) {
        (Some((first, last)), _) => {
            bilingual(format!("{first}年至{last}年{}", undated.zh), format!("{first} to {last}{}", undated.en))
        }
        (None, Some(_)) => bilingual("无年份", "no years"),
        (None, None) => bilingual("未记录", "not recorded"),
    };
    let coder = match side.model.as_str() {
        "" => bilingual("已编码的输入，编码者未记录", "coded input; the coder is not recorded"),
        model => bilingual(format!("模型 {model}"), format!("model {model}")),
    };
    [
        bilingual(format!("{} 中的产品", side.name), format!("products in {}", side.name)),
        window,
        same(&side.n_records.to_string()),
        same(&side.n_mentions().to_string()),
        coder,
        bilingual("提及：一个产品用于一个场景", "mention: one product used for one scenario"),
        same(&side.taxonomy),
    ]
}

fn scope_rows(this: [Bilingual; 7], other: [Bilingual; 7]) -> Vec<ScopeRow> {
    let aspects = [
        ("对象", "population"),
        ("时间", "window"),
        ("产品数", "products"),
        ("提及数", "mentions"),
        ("编码者", "coder"),
        ("单位", "unit"),
        ("分类体系", "taxonomy"),
    ];
    let rows = aspects.into_iter().zip(this.into_iter().zip(other));
    rows.map(|((zh, en), (this, other))| ScopeRow { aspect: bilingual(zh, en), differs: this != other, this, other })
        .collect()
}

fn scope(this: &Side, other: &Side) -> Vec<ScopeRow> {
    scope_rows(described(this), described(other))
}

/// A published figure and what this program sets beside it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FigureRow {
    /// The figure as published.
    pub published: Figure,
    /// Ours; `null` where nothing of ours means the same. Only shares have an interval.
    pub this: Option<Measure>,
    /// What a reader must know beside it.
    pub remarks: Vec<Bilingual>,
}

/// An entry that a published statement names, and its place here.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankRow {
    /// The statement.
    pub statement: Bilingual,
    /// Its level.
    pub level: Level,
    /// The entry, under its published name.
    pub published: Named,
    /// Its name in the taxonomy.
    pub name: Bilingual,
    /// Mentions here.
    pub mentions: u64,
    /// Its rank among the entries of its level by mentions, from 1; ties share the best rank.
    pub rank: usize,
    /// Entries at its level.
    pub n_entries: usize,
}

/// A result of this program beside a published survey.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedComparison {
    /// What this survey is called.
    pub this: String,
    /// Short name of the published survey.
    pub other: String,
    /// Its title.
    pub title: Bilingual,
    /// Who published it, and when.
    pub publisher: Bilingual,
    /// Date of publication.
    pub published: String,
    /// Its sources.
    pub sources: Vec<Source>,
    /// How far the two cover the same.
    pub scope: Vec<ScopeRow>,
    /// Bootstrap resamples behind the intervals.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Its figures.
    pub figures: Vec<FigureRow>,
    /// Its statements on order.
    pub ranks: Vec<RankRow>,
    /// Why there is no rank correlation and no distance.
    pub note: Bilingual,
}

/// Compares a result of this program with a published survey, figure by figure.
pub fn compare_published(
    this: &Side,
    microdata: &Microdata<'_>,
    published: &PublishedSurvey,
    resamples: usize,
    seed: u64,
) -> PublishedComparison {
    let taxonomy = microdata.taxonomy();
    let words = &published.scope;
    let figure = |id: &str| {
        let value = published.figures.iter().find(|figure| figure.id == id).map(|figure| figure.value.to_string());
        value.map_or(bilingual("未公布", "not published"), |value| same(&value))
    };
    let other = [
        words.population.clone(),
        words.window.clone(),
        figure("models"),
        figure("mentions"),
        words.coder.clone(),
        words.unit.clone(),
        // Its id has been checked; the publication knows no digest.
        same(&this.taxonomy),
    ];
    let mut ranks = Vec::new();
    for ranking in &published.rankings {
        for (level, named) in [(Level::Category, &ranking.categories), (Level::Scenario, &ranking.scenarios)] {
            let mentions = at_level(&this.mentions, level, taxonomy);
            let entries = entries(level, taxonomy);
            for named in named {
                let Some(at) = entries.iter().position(|(id, _)| *id == named.id) else { continue };
                ranks.push(RankRow {
                    statement: ranking.wording.clone(),
                    level,
                    published: named.clone(),
                    name: entries[at].1.clone(),
                    mentions: mentions[at],
                    rank: 1 + mentions.iter().filter(|&&other| other > mentions[at]).count(),
                    n_entries: entries.len(),
                });
            }
        }
    }
    PublishedComparison {
        this: this.name.clone(),
        other: published.id.clone(),
        title: published.title.clone(),
        publisher: published.publisher.clone(),
        published: published.published.clone(),
        sources: published.sources.clone(),
        scope: scope_rows(described(this), other),
        resamples,
        seed,
        figures: published.figures.iter().map(|figure| beside(figure, this, microdata, resamples, seed)).collect(),
        ranks,
        note: bilingual(
            "该调研未公布各类别和各场景的完整频次，因此不计算秩相关和分布距离。",
            "The survey does not publish the mentions of every category or scenario, so that rank correlations and distances cannot be computed.",
        ),
    }
}

fn beside(figure: &Figure, this: &Side, microdata: &Microdata<'_>, resamples: usize, seed: u64) -> FigureRow {
    let taxonomy = microdata.taxonomy();
    let units = &microdata.units;
    let mut remarks: Vec<Bilingual> = figure.remark.clone().into_iter().collect();
    let plain = |value: f64| Some(Measure { value: Some(value), low: None, high: None });
    let in_category = |mentions: &[u64]| -> u64 {
        let pairs = taxonomy.scenarios.iter().zip(mentions);
        pairs.filter(|(entry, _)| figure.category.is_none_or(|id| entry.category == id)).map(|(_, n)| n).sum()
    };
    let touched = |level| at_level(&this.mentions, level, taxonomy).iter().filter(|&&n| n > 0).count() as f64;
    let value = match figure.counts {
        None => None,
        Some(Counted::Records) => match selected(figure, microdata, &mut remarks) {
            Some(n) => plain(n as f64),
            None => None,
        },
        Some(Counted::Mentions) => plain(in_category(&this.mentions) as f64),
        Some(Counted::CategoriesTouched) => plain(touched(Level::Category)),
        Some(Counted::ScenariosTouched) => plain(touched(Level::Scenario)),
        Some(Counted::ScenariosNamingLargeModels) => {
            plain(taxonomy.scenarios.iter().filter(|entry| entry.names_large_model).count() as f64)
        }
        Some(Counted::ShareOfMentions) => {
            let share = |mentions: &[u64]| {
                let all: u64 = mentions.iter().sum();
                vec![if all == 0 { f64::NAN } else { in_category(mentions) as f64 / all as f64 }]
            };
            let samples: Vec<Vec<f64>> = (0..resamples)
                .into_par_iter()
                .map(|sample| {
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    random.set_stream(sample as u64);
                    let drawn = (0..units.len()).map(|_| &units[random.random_range(0..units.len())]);
                    share(&count(drawn, taxonomy.len()))
                })
                .collect();
            intervals(&share(&this.mentions), &samples).into_iter().next().filter(|measure| measure.value.is_some())
        }
    };
    FigureRow { published: figure.clone(), this: value, remarks }
}

/// Records that a figure selects; `None`, with a remark, where the columns that it needs are empty.
fn selected(figure: &Figure, microdata: &Microdata<'_>, remarks: &mut Vec<Bilingual>) -> Option<u64> {
    let units = &microdata.units;
    let model_type = figure.model_type.as_ref().map(|wanted| {
        microdata.model_types().iter().position(|known| known.to_lowercase() == *wanted).unwrap_or(usize::MAX)
    });
    if model_type.is_some() && microdata.model_types().len() == 1 {
        remarks.push(bilingual("输入没有模型类型一列", "The input has no column with the type of model"));
        return None;
    }
    if figure.year.is_some() && microdata.years().is_none() {
        remarks.push(bilingual("输入没有发布年份一列", "The input has no column with the year of release"));
        return None;
    }
    let of_type = |unit: &&Unit| model_type.is_none_or(|wanted| unit.model_type == wanted);
    let of_year = |unit: &&Unit| figure.year.is_none() || unit.year == figure.year;
    let chosen: Vec<&Unit> = units.iter().filter(of_type).filter(of_year).collect();
    if figure.year.is_some() {
        let undated = units.iter().filter(of_type).filter(|unit| unit.year.is_none()).count();
        if undated > 0 {
            remarks.push(bilingual(
                format!("本调查中无年份的产品：{undated} 个"),
                format!("products of this survey without a year: {undated}"),
            ));
        }
    }
    let Some(before) = figure.before_month else { return Some(chosen.len() as u64) };
    let unknown = chosen.iter().filter(|unit| unit.month.is_none()).count();
    if unknown > 0 {
        remarks.push(bilingual(
            format!("该年无月份而未计入的产品：{unknown} 个"),
            format!("products of that year left out for want of a month: {unknown}"),
        ));
    }
    Some(chosen.iter().filter(|unit| unit.month.is_some_and(|month| month < before)).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Status;
    use crate::prediction::Prediction;
    use crate::survey::{Coded, Surveyor};
    use proptest::prelude::*;
    use serde_json::json;

    fn side<'a>(name: &str, sets: &[(&str, Vec<Id>)], taxonomy: &'a Taxonomy) -> (Side, Survey, Microdata<'a>) {
        let mut surveyor = Surveyor::new(taxonomy, &["year".to_owned()]);
        let mut microdata = Microdata::new(taxonomy);
        for (id, set) in sets {
            let value = json!({"id": id, "status": "coded", "scenarios": set,
                               "columns": {"released": "2025-03", "model_type": "imaging"}});
            let prediction: Prediction = serde_json::from_value(value).expect("a prediction");
            let coded = Coded { id, status: Status::Coded, scenarios: set, probabilities: &[], truncated: false };
            surveyor.add(&coded, |column| prediction.column(column));
            microdata.add(&prediction);
        }
        let survey = surveyor.finish(taxonomy.label(), String::new(), 0);
        (Side::from_records(name.to_owned(), &survey, &microdata), survey, microdata)
    }

    #[test]
    fn equal_surveys_do_not_move_and_pairs_have_no_sampling_error() {
        let taxonomy = Taxonomy::builtin();
        let sets = [("a", vec![8, 10]), ("b", vec![8]), ("c", vec![39]), ("d", vec![])];
        let (this, ..) = side("this", &sets, &taxonomy);
        let comparison = compare(&this, &this, &taxonomy, 50, 1);
        assert_eq!(comparison.n_common, Some(4));
        let zero = Measure { value: Some(0.0), low: Some(0.0), high: Some(0.0) };
        assert!(comparison.shifts.iter().all(|shift| shift.change == zero));
        for likeness in &comparison.likeness {
            assert_eq!(likeness.total_variation.value, Some(0.0));
            assert!(likeness.spearman.value.is_some_and(|value| (value - 1.0).abs() < 1e-12));
        }
        assert!(comparison.scope.iter().all(|row| !row.differs));
    }

    #[test]
    fn the_largest_change_comes_first_and_a_side_without_records_stays_fixed() {
        let taxonomy = Taxonomy::builtin();
        let (this, ..) = side("this", &[("a", vec![8]), ("b", vec![8]), ("c", vec![8, 39])], &taxonomy);
        let (_, survey, _) = side("other", &[("x", vec![8]), ("y", vec![39, 40])], &taxonomy);
        let json = serde_json::to_string(&survey).expect("writes");
        let other = Side::from_json("other.json".to_owned(), &json, &taxonomy).expect("reads");
        assert_eq!((other.n_records, other.years, other.n_undated), (2, Some((2025, 2025)), Some(0)));
        let comparison = compare(&this, &other, &taxonomy, 200, 1);
        assert_eq!(comparison.n_common, None);
        let scenarios: Vec<&Shift> = comparison.shifts.iter().filter(|row| row.level == Level::Scenario).collect();
        // Shares 3/4 and 1/4 here, 1/3 for each of three there.
        assert_eq!((scenarios[0].id, scenarios[0].mentions, scenarios[0].other_mentions), (8, 3, 1));
        assert!((scenarios[0].share - scenarios[0].other_share - 5.0 / 12.0).abs() < 1e-12);
        let distance = comparison.likeness[2].total_variation.value.expect("defined");
        assert!((distance - 5.0 / 12.0).abs() < 1e-12);
        // Every resample has the same three-to-one or purer mix here, and always the same shares there.
        assert!(scenarios[0].change.high.is_some_and(|high| high <= 1.0 - 1.0 / 3.0 + 1e-12));
        assert!(comparison.scope.iter().any(|row| row.aspect.en == "products" && row.differs));
    }

    #[test]
    fn other_json_and_other_taxonomies_are_refused_with_the_file() {
        let taxonomy = Taxonomy::builtin();
        let error = Side::from_json("x.json".to_owned(), "{}", &taxonomy).expect_err("refused").to_string();
        assert!(error.starts_with("`x.json` is not a result that can be compared: missing field"), "{error}");
        let (_, mut survey, _) = side("other", &[("x", vec![8])], &taxonomy);
        survey.taxonomy = "t@0".to_owned();
        let json = serde_json::to_string(&survey).expect("writes");
        let error = Side::from_json("x.json".to_owned(), &json, &taxonomy).expect_err("refused");
        assert!(matches!(error, ComparisonError::Taxonomy { .. }), "{error}");
    }

    #[test]
    fn published_figures_stand_beside_what_means_the_same() {
        let taxonomy = Taxonomy::builtin();
        let (this, _, microdata) = side("this", &[("a", vec![8, 10]), ("b", vec![8]), ("c", vec![39])], &taxonomy);
        let published = PublishedSurvey::builtin("vbinsight-2025").expect("listed").expect("sound");
        let comparison = compare_published(&this, &microdata, &published, 100, 1);
        let row = |id: &str| comparison.figures.iter().find(|row| row.published.id == id).expect("a row");
        let value = |id: &str| row(id).this.and_then(|measure| measure.value);
        assert_eq!((value("models"), value("mentions"), value("medical-services")), (Some(3.0), Some(4.0), Some(3.0)));
        assert_eq!((value("medical-services-share"), value("categories")), (Some(0.75), Some(2.0)));
        assert_eq!((value("models-2023"), value("models-2025"), value("imaging")), (Some(0.0), Some(3.0), Some(3.0)));
        assert_eq!((value("non-imaging-it"), value("hospital-models")), (None, None));
        let share = row("medical-services-share").this.expect("a share");
        assert!(share.low < share.value && share.value < share.high);
        let triage = comparison.ranks.iter().find(|row| row.published.id == 8).expect("named");
        assert_eq!((triage.rank, triage.mentions, triage.n_entries), (1, 2, 84));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn changes_of_shares_sum_to_nothing_and_turn_round_with_the_sides(
            sets in proptest::collection::vec(proptest::collection::btree_set(1u32..=84, 1..5), 2..10)
        ) {
            let taxonomy = Taxonomy::builtin();
            let named: Vec<(String, Vec<Id>)> =
                sets.iter().enumerate().map(|(at, set)| (at.to_string(), set.iter().copied().collect())).collect();
            let named: Vec<(&str, Vec<Id>)> = named.iter().map(|(id, set)| (id.as_str(), set.clone())).collect();
            let (left, right) = named.split_at(named.len() / 2);
            let (left, ..) = side("left", left, &taxonomy);
            let (right, ..) = side("right", right, &taxonomy);
            let forth = compare(&left, &right, &taxonomy, 5, 1);
            let back = compare(&right, &left, &taxonomy, 5, 1);
            for level in LEVELS {
                let changes = |comparison: &Comparison| -> Vec<(Id, f64)> {
                    let rows = comparison.shifts.iter().filter(|row| row.level == level);
                    rows.map(|row| (row.id, row.change.value.expect("both sides have mentions"))).collect()
                };
                let sum: f64 = changes(&forth).iter().map(|(_, change)| change).sum();
                prop_assert!(sum.abs() < 1e-9);
                for ((id, change), (other, turned)) in changes(&forth).iter().zip(changes(&back)) {
                    prop_assert!(*id == other && (change + turned).abs() < 1e-12);
                }
            }
        }
    }
}
