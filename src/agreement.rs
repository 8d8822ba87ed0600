//! Agreement between two coders who coded the same texts apart from each other.
//!
//! Krippendorff's alpha (Krippendorff 2019, Content Analysis, ch. 12) with the MASI distance between sets (Passonneau
//! 2006), and F1 of one coder's mentions against the other's, which is symmetric. A text without scenarios counts as
//! the set of its status alone, so that `outside` and `unspecified` are told apart.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::labels::Status;
use crate::taxonomy::{Bilingual, Id, Taxonomy};

/// What one coder gave one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coding {
    /// Coded status.
    pub status: Status,
    /// Coded scenarios.
    pub scenarios: BTreeSet<Id>,
}

/// Agreement on one category.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CategoryAgreement {
    /// Its number.
    pub id: Id,
    /// Its name.
    pub name: Bilingual,
    /// Mentions of its scenarios that both coders gave.
    pub both: usize,
    /// Mentions that only the first gave.
    pub only_first: usize,
    /// Mentions that only the second gave.
    pub only_second: usize,
    /// F1 between the coders; `None` where neither gave any.
    pub f1: Option<f64>,
}

/// Agreement of two coders.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Texts that both coded.
    pub n_texts: usize,
    /// Texts with the same status and scenarios.
    pub n_identical: usize,
    /// Texts with the same status.
    pub n_same_status: usize,
    /// Mentions that both coders gave.
    pub both: usize,
    /// Mentions that only the first gave.
    pub only_first: usize,
    /// Mentions that only the second gave.
    pub only_second: usize,
    /// F1 between the coders over all mentions; `None` where neither gave any.
    pub micro_f1: Option<f64>,
    /// Krippendorff's alpha with MASI distance; `None` where all codings are equal, so that there is nothing to agree on.
    pub alpha_masi: Option<f64>,
    /// By category.
    pub categories: Vec<CategoryAgreement>,
}

/// Compares two coders on the texts that both coded; codings are joined by text id.
pub fn agreement(
    first: &BTreeMap<String, Coding>,
    second: &BTreeMap<String, Coding>,
    taxonomy: &Taxonomy,
) -> Agreement {
    let pairs: Vec<(&Coding, &Coding)> =
        first.iter().filter_map(|(id, coding)| second.get(id).map(|other| (coding, other))).collect();
    let counts = |keep: &dyn Fn(Id) -> bool| {
        let (mut both, mut only_first, mut only_second) = (0, 0, 0);
        for (a, b) in &pairs {
            both += a.scenarios.intersection(&b.scenarios).filter(|&&id| keep(id)).count();
            only_first += a.scenarios.difference(&b.scenarios).filter(|&&id| keep(id)).count();
            only_second += b.scenarios.difference(&a.scenarios).filter(|&&id| keep(id)).count();
        }
        (both, only_first, only_second)
    };
    let categories = taxonomy
        .categories
        .iter()
        .map(|category| {
            let (both, only_first, only_second) = counts(&|id| taxonomy.category_of(id) == Some(category.id));
            let f1 = f1(both, only_first, only_second);
            CategoryAgreement { id: category.id, name: category.name.clone(), both, only_first, only_second, f1 }
        })
        .collect();
    let (both, only_first, only_second) = counts(&|_| true);
    Agreement {
        n_texts: pairs.len(),
        n_identical: pairs.iter().filter(|(a, b)| a == b).count(),
        n_same_status: pairs.iter().filter(|(a, b)| a.status == b.status).count(),
        both,
        only_first,
        only_second,
        micro_f1: f1(both, only_first, only_second),
        alpha_masi: alpha(&pairs),
        categories,
    }
}

fn f1(both: usize, only_first: usize, only_second: usize) -> Option<f64> {
    let all = 2 * both + only_first + only_second;
    (all > 0).then(|| 2.0 * both as f64 / all as f64)
}

fn alpha(pairs: &[(&Coding, &Coding)]) -> Option<f64> {
    let sets: Vec<BTreeSet<Id>> = pairs.iter().flat_map(|(a, b)| [as_set(a), as_set(b)]).collect();
    let observed = sets.chunks_exact(2).map(|pair| masi_distance(&pair[0], &pair[1])).sum::<f64>() / pairs.len() as f64;
    let mut expected = 0.0;
    for (index, set) in sets.iter().enumerate() {
        expected += sets[index + 1..].iter().map(|other| masi_distance(set, other)).sum::<f64>();
    }
    expected /= (sets.len() * sets.len().saturating_sub(1)) as f64 / 2.0;
    (expected > 0.0).then(|| 1.0 - observed / expected)
}

/// Scenario ids start at 1; statuses without scenarios take ids from the other end.
fn as_set(coding: &Coding) -> BTreeSet<Id> {
    match coding.status {
        Status::Coded => coding.scenarios.clone(),
        Status::Outside => BTreeSet::from([Id::MAX]),
        Status::Unspecified => BTreeSet::from([Id::MAX - 1]),
    }
}

/// 1 - Jaccard similarity x monotonicity (1 equal, 2/3 subset, 1/3 overlap, 0 disjoint). Two empty sets are equal.
pub fn masi_distance(a: &BTreeSet<Id>, b: &BTreeSet<Id>) -> f64 {
    let common = a.intersection(b).count();
    let union = a.union(b).count();
    if union == 0 {
        return 0.0;
    }
    let monotonicity = match common {
        0 => 0.0,
        _ if a == b => 1.0,
        _ if common == a.len() || common == b.len() => 2.0 / 3.0,
        _ => 1.0 / 3.0,
    };
    1.0 - common as f64 / union as f64 * monotonicity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[Id]) -> BTreeSet<Id> {
        ids.iter().copied().collect()
    }

    fn codings(all: &[&[Id]]) -> BTreeMap<String, Coding> {
        let coding = |ids: &[Id]| Coding {
            status: if ids.is_empty() { Status::Unspecified } else { Status::Coded },
            scenarios: set(ids),
        };
        all.iter().enumerate().map(|(index, ids)| (index.to_string(), coding(ids))).collect()
    }

    #[test]
    fn masi_distances_by_hand() {
        assert_eq!(masi_distance(&set(&[1, 2]), &set(&[1, 2])), 0.0);
        assert!((masi_distance(&set(&[1]), &set(&[1, 2])) - (1.0 - 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((masi_distance(&set(&[1, 3]), &set(&[1, 2])) - (1.0 - 1.0 / 9.0)).abs() < 1e-12);
        assert_eq!(masi_distance(&set(&[1]), &set(&[2])), 1.0);
        assert_eq!(masi_distance(&set(&[]), &set(&[])), 0.0);
    }

    #[test]
    fn alpha_by_hand() {
        // Values 1,1 | 2,2 | 1,2: observed 1/3. Of 15 pairs among {1,1,2,2,1,2}, 9 differ: expected 0.6.
        let first = codings(&[&[1], &[2], &[1]]);
        let second = codings(&[&[1], &[2], &[2]]);
        let found = agreement(&first, &second, &Taxonomy::builtin());
        assert!((found.alpha_masi.expect("defined") - (1.0 - (1.0 / 3.0) / 0.6)).abs() < 1e-12);
        assert_eq!((found.both, found.only_first, found.only_second), (2, 1, 1));
        assert!((found.micro_f1.expect("defined") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((found.n_identical, found.n_same_status), (2, 3));
    }

    #[test]
    fn only_texts_of_both_coders_count_and_nothing_is_not_agreement() {
        let mut second = codings(&[&[], &[]]);
        second.remove("1");
        let found = agreement(&codings(&[&[], &[]]), &second, &Taxonomy::builtin());
        assert_eq!((found.n_texts, found.micro_f1, found.alpha_masi), (1, None, None));
    }
}
