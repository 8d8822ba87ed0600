//! Scoring without labels: how near a text lies to what the taxonomy says of each scenario (zero-shot classification by
//! embedding labels, Yin et al. 2019, arXiv:1909.00161).

use super::features::{TextFeatures, Widths};
use crate::encoder::checkpoint::mean;
use crate::encoder::{EncodeError, TextEncoder, normalize};
use crate::taxonomy::{Lang, Taxonomy};

/// Width of the softmax over scenarios, in cosine: how much nearer the likelier of two scenarios lies.
const TEMPERATURE: f32 = 0.05;

/// Vectors of each scenario's names, definitions, inclusions and terms.
pub struct LabelVectors {
    hidden: usize,
    /// Mean of all label vectors. Vectors of one language model share a direction that says nothing.
    center: Vec<f32>,
    /// For each scenario, its centred unit vectors, one after the other.
    scenarios: Vec<Vec<f32>>,
}

impl LabelVectors {
    /// Encodes a taxonomy.
    ///
    /// # Errors
    /// The backend fails.
    pub fn new(taxonomy: &Taxonomy, encoder: &TextEncoder) -> Result<LabelVectors, EncodeError> {
        let hidden = encoder.encoder.hidden_size();
        let mut texts: Vec<&str> = Vec::new();
        let mut owners: Vec<usize> = Vec::new();
        for (index, scenario) in taxonomy.scenarios.iter().enumerate() {
            for lang in [Lang::Zh, Lang::En] {
                let single = [scenario.name.get(lang), scenario.definition.get(lang)];
                let lists = scenario.includes.get(lang).iter().chain(scenario.terms.get(lang));
                let own = single.into_iter().chain(lists).map(String::as_str).filter(|text| !text.trim().is_empty());
                texts.extend(own);
                owners.resize(texts.len(), index);
            }
        }
        let last = [encoder.encoder.layers()];
        let pooled = encoder.states(&texts, &last, |_, states| mean(states.states.chunks_exact(hidden), hidden))?;
        let center = mean(pooled.iter().map(Vec::as_slice), hidden);
        let mut scenarios = vec![Vec::new(); taxonomy.len()];
        for (owner, vector) in owners.into_iter().zip(pooled) {
            scenarios[owner].extend(centred(&vector, &center));
        }
        Ok(LabelVectors { hidden, center, scenarios })
    }

    /// Row-major `[clauses + 1, scenarios]` cosines to the nearest text of each scenario; the last row is of the whole text.
    pub fn cosines(&self, features: &TextFeatures) -> Vec<f32> {
        // Of the layers, the last alone, whose means sentence encoders are trained to compare.
        let document = features.document.len();
        let widths = Widths { clause: document + self.hidden, document };
        let rows = features.vectors.chunks_exact(widths.clause).chain([features.document.as_slice()]);
        let rows = rows.map(|row| widths.last(row));
        let mut cosines = Vec::with_capacity((features.clauses.len() + 1) * self.scenarios.len());
        for row in rows {
            let row = centred(row, &self.center);
            cosines.extend(self.scenarios.iter().map(|vectors| {
                let dots =
                    vectors.chunks_exact(self.hidden).map(|vector| vector.iter().zip(&row).map(|(a, b)| a * b).sum());
                dots.fold(-1.0f32, f32::max)
            }));
        }
        cosines
    }

    /// Shares of belief over the scenarios, which add up to 1: the softmax of each scenario's strongest cosine.
    pub fn shares(&self, cosines: &[f32]) -> Vec<f32> {
        let strongest = super::head::strongest(cosines, self.scenarios.len());
        let largest = strongest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = strongest.iter().map(|cosine| ((cosine - largest) / TEMPERATURE).exp()).collect();
        let sum: f32 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }
}

fn centred(vector: &[f32], center: &[f32]) -> Vec<f32> {
    let mut shifted: Vec<f32> = vector.iter().zip(center).map(|(value, center)| value - center).collect();
    normalize(&mut shifted);
    shifted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::clauses;

    #[test]
    fn the_nearest_label_text_decides_and_shares_add_up() {
        // Two scenarios: one along x with a second text along y, one along -x.
        let labels = LabelVectors {
            hidden: 2,
            center: vec![0.0, 0.0],
            scenarios: vec![vec![1.0, 0.0, 0.0, 1.0], vec![-1.0, 0.0]],
        };
        let features = TextFeatures {
            clauses: clauses("a,b"),
            vectors: vec![9.0, 9.0, 0.0, 2.0, 9.0, 9.0, 9.0, 9.0, -1.0, 1.0, 9.0, 9.0],
            document: vec![9.0, 9.0, 1.0, 1.0],
            grams: vec![vec![], vec![]],
            words: vec![],
        };
        let cosines = labels.cosines(&features);
        let half = std::f32::consts::FRAC_1_SQRT_2;
        for (found, expected) in cosines.iter().zip([1.0, 0.0, half, half, half, -half]) {
            assert!((found - expected).abs() < 1e-6, "{cosines:?}");
        }
        let shares = labels.shares(&cosines);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        // exp((0.7071 - 1) / 0.05) = 0.00286 of the first.
        assert!((shares[1] / shares[0] - 0.002_86).abs() < 1e-4, "{shares:?}");
    }
}
