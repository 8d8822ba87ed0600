//! Checks of the data in the repository, through the same functions that `medscenario data` uses.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use medscenario::dataset::{Corpus, Placed, products};
use medscenario::labels::{self, LabelledText};
use medscenario::taxonomy::Taxonomy;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).expect("the directory is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    assert!(!files.is_empty(), "no .{extension} in {directory}");
    files
}

fn training() -> Corpus {
    let taxonomy = Taxonomy::builtin();
    let mut corpus = Corpus::default();
    for file in [files("data/training", "jsonl"), files("data/training/products", "jsonl")].concat() {
        let problems = corpus.add_file(&file, &taxonomy).expect("readable");
        assert!(problems.is_empty(), "{problems:#?}");
    }
    corpus
}

fn gold(name: &str) -> Vec<LabelledText> {
    labels::read(&[root().join("eval/gold").join(name)], &Taxonomy::builtin()).expect("valid labels")
}

const GOLD: [&str; 4] = ["dev-zh.jsonl", "dev-en.jsonl", "test-zh.jsonl", "test-en.jsonl"];

#[test]
fn the_registry_is_sound_and_has_its_size() {
    let (products, problems) = products::read(&root().join("data/products/products.csv")).expect("readable");
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(products.len() >= 300, "{}", products.len());
    assert!(products.iter().filter(|product| !product.item.description_en.is_empty()).count() >= 120);
}

#[test]
fn the_training_corpus_covers_what_it_should() {
    let statistics = training().statistics(&Taxonomy::builtin());
    assert!(statistics.n_texts >= 6000, "{statistics:#?}");
    assert!(
        statistics.n_zh.abs_diff(statistics.n_en) * 10 < statistics.n_texts,
        "half Chinese, half English: {statistics:#?}"
    );
    assert!(statistics.n_several >= 1500, "{}", statistics.n_several);
    assert!(statistics.n_outside + statistics.n_unspecified >= 700);
    let thin: Vec<_> = statistics.mentions.iter().filter(|(_, count)| **count < 50).collect();
    assert!(thin.is_empty(), "scenarios with fewer than 50 texts: {thin:?}");
}

#[test]
fn no_training_file_is_filled_from_templates() {
    let taxonomy = Taxonomy::builtin();
    // Some texts at a time: shares of distinct words and phrases fall with the length of any text.
    const TEXTS: usize = 2000;
    for file in [files("data/training", "jsonl"), files("data/training/products", "jsonl")].concat() {
        let mut corpus = Corpus::default();
        corpus.add_file(&file, &taxonomy).expect("readable");
        assert!(!corpus.texts.is_empty(), "{}", file.display());
        for texts in corpus.texts.chunks(TEXTS) {
            let statistics = Corpus { texts: texts.to_vec() }.statistics(&taxonomy);
            for (count, diversity) in
                [(statistics.n_zh, &statistics.diversity_zh), (statistics.n_en, &statistics.diversity_en)]
            {
                if count > 0 {
                    assert!(diversity.distinct_5_grams > 0.3, "{}: {diversity:?}", file.display());
                    assert!(diversity.distinct_openings > 0.6, "{}: {diversity:?}", file.display());
                    assert!(diversity.type_token_ratio > 0.05, "{}: {diversity:?}", file.display());
                }
            }
        }
    }
}

#[test]
fn no_training_text_repeats_another_or_an_evaluation_text() {
    let corpus = training();
    let repetitions = corpus.repetitions();
    assert!(repetitions.is_empty(), "{repetitions:#?}");
    let mut held_out: Vec<Placed<String>> = Vec::new();
    for name in GOLD {
        let file = PathBuf::from(name);
        held_out.extend(gold(name).into_iter().enumerate().map(|(index, text)| Placed {
            file: file.clone(),
            line: index + 1,
            item: text.text,
        }));
    }
    assert!(held_out.len() >= 600);
    let leaks = corpus.leaks(&held_out);
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn every_real_product_in_training_has_a_source_and_two_languages() {
    let mut sources = csv::Reader::from_path(root().join("data/training/products/sources.csv")).expect("readable");
    let mut products = BTreeMap::new();
    for row in sources.deserialize::<BTreeMap<String, String>>() {
        let row = row.expect("a row of text");
        assert!(row["source_url"].starts_with("http"), "{row:?}");
        assert!(!row["name_zh"].is_empty() && !row["developer_zh"].is_empty(), "{row:?}");
        assert_eq!(products.insert(row["id"].clone(), BTreeSet::new()), None, "{row:?}");
    }
    let texts = labels::read(&files("data/training/products", "jsonl"), &Taxonomy::builtin());
    for text in texts.expect("valid labels") {
        let product = text.group.as_ref().and_then(|group| products.get_mut(group));
        product.unwrap_or_else(|| panic!("{} has no source", text.id)).insert(text.lang);
    }
    let incomplete: Vec<_> = products.iter().filter(|(_, languages)| languages.len() != 2).collect();
    assert!(incomplete.is_empty(), "{incomplete:?}");
}

#[test]
fn every_training_scenario_has_evidence_and_so_has_gold() {
    for text in training().texts.iter().map(|text| &text.item).chain(&GOLD.map(gold).concat()) {
        for scenario in &text.scenarios {
            assert!(!text.evidence_ranges(*scenario).is_empty(), "{}: scenario {scenario}", text.id);
        }
    }
}

#[test]
fn gold_is_the_registry_split_by_developer() {
    let (products, _) = products::read(&root().join("data/products/products.csv")).expect("readable");
    let [dev_zh, dev_en, test_zh, test_en] = GOLD.map(gold);
    assert!(test_zh.len() >= 60 && test_zh.len() == test_en.len() && dev_zh.len() == dev_en.len());
    assert_eq!(dev_zh.len() + test_zh.len(), products.len(), "every product is coded");
    let groups =
        |texts: &[LabelledText]| texts.iter().filter_map(|text| text.group.clone()).collect::<HashSet<String>>();
    assert!(groups(&dev_zh).is_disjoint(&groups(&test_zh)), "no developer is on both sides");
    for (zh, en) in dev_zh.iter().zip(&dev_en).chain(test_zh.iter().zip(&test_en)) {
        assert_eq!((format!("{}-en", zh.id), &zh.scenarios, zh.status), (en.id.clone(), &en.scenarios, en.status));
        let product = products.iter().find(|product| product.item.id == zh.id).expect("in the registry");
        assert_eq!((&zh.text, &en.text), (&product.item.description_zh, &product.item.description_en), "{}", zh.id);
    }
}

#[test]
fn developers_of_development_and_test_differ_by_name_too() {
    let (products, _) = products::read(&root().join("data/products/products.csv")).expect("readable");
    let developers = |texts: &[LabelledText]| {
        let ids: HashSet<&str> = texts.iter().map(|text| text.id.as_str()).collect();
        let chosen = products.iter().filter(|product| ids.contains(product.item.id.as_str()));
        chosen.map(|product| product.item.developer_zh.clone()).collect::<HashSet<String>>()
    };
    let both = developers(&gold("dev-zh.jsonl"))
        .intersection(&developers(&gold("test-zh.jsonl")))
        .cloned()
        .collect::<Vec<_>>();
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn the_codebook_stands_beside_the_taxonomy() {
    for file in ["README.md", "codebook.md", "taxonomy.toml"] {
        assert!(Path::new(&root().join("data/taxonomy/nhc-2024").join(file)).exists(), "{file}");
    }
}

/// Scenarios that the codebook tells apart in one row.
const NEIGHBOURS: [&[u32]; 26] = [
    &[1, 2, 5, 6, 7],
    &[1, 3],
    &[3, 4],
    &[8, 9, 10, 11],
    &[3, 9, 65, 79],
    &[12, 13, 14],
    &[14, 39, 41, 46],
    &[15, 25, 28],
    &[16, 17, 18, 24],
    &[19, 20, 21, 38],
    &[22, 26, 27, 40],
    &[3, 22],
    &[28, 29, 30],
    &[32, 35, 66],
    &[35, 55],
    &[55, 66],
    &[6, 62],
    &[63, 64],
    &[42, 43, 44],
    &[1, 45, 46],
    &[47, 48, 49],
    &[39, 55],
    &[69, 70, 71, 76, 80, 84],
    &[75, 76, 77, 78, 79],
    &[82, 83, 84],
    &[10, 65],
];

#[test]
fn every_pair_of_neighbours_has_a_minimal_pair() {
    let corpus = training();
    let mut pairs: BTreeMap<&String, Vec<&LabelledText>> = BTreeMap::new();
    for text in corpus.texts.iter().map(|text| &text.item) {
        if let Some(pair) = &text.pair {
            pairs.entry(pair).or_default().push(text);
        }
    }
    let tells_apart = |one: u32, other: u32| {
        pairs.values().any(|texts| {
            let has = |text: &LabelledText, wanted: u32| text.scenarios.contains(&wanted);
            // The codes of the two texts differ in one of the neighbours, and the other one is in either of them.
            texts.iter().any(|text| {
                has(text, one) && texts.iter().any(|twin| has(twin, other) && twin.scenarios != text.scenarios)
            })
        })
    };
    for row in NEIGHBOURS {
        for (index, &one) in row.iter().enumerate() {
            for &other in &row[index + 1..] {
                assert!(tells_apart(one, other), "no minimal pair for scenarios {one} and {other}");
            }
        }
    }
}

/// Whether a text has a name as a word; within a longer Latin word it is another name.
fn names(text: &str, name: &str) -> bool {
    let latin = |character: Option<char>| character.is_some_and(|character| character.is_ascii_alphanumeric());
    text.match_indices(name).any(|(start, _)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + name.len()..].chars().next());
        !(latin(before) && latin(name.chars().next()) || latin(after) && latin(name.chars().next_back()))
    })
}

#[test]
fn no_training_text_names_a_product_of_the_registry() {
    let (products, _) = products::read(&root().join("data/products/products.csv")).expect("readable");
    let corpus = training();
    for product in products.iter().map(|product| &product.item) {
        for name in [&product.name_zh, &product.name_en] {
            // Short names, and names in another case, are ordinary words as well.
            if name.chars().count() < 6 {
                continue;
            }
            let found = corpus.texts.iter().find(|text| names(&text.item.text, name));
            assert!(found.is_none(), "`{name}` in {}", found.map_or("", |text| &text.item.id));
        }
    }
}
