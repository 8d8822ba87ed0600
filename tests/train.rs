//! Promises of `train`: the same seed gives the same bundle, and any taxonomy in the format works.

#[path = "fixtures/tiny.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use tiny::Tiny;

const TAXONOMY: &str = r#"
format = 1
id = "fruit"
version = "1"
title = { zh = "水果", en = "Fruit" }
section = [{ id = 1, name = { zh = "一", en = "One" } }]
category = [{ id = 5, section = 1, name = { zh = "类", en = "Class" } }]
[[scenario]]
id = 300
category = 5
name = { zh = "苹果", en = "Apple" }
[[scenario]]
id = 400
category = 5
name = { zh = "梨", en = "Pear" }
"#;

fn labels() -> String {
    let mut lines = String::new();
    for index in 0..24 {
        let (text, scenarios, evidence, status) = match index % 4 {
            0 => (format!("sells apples, number {index}"), "[300]", r#"{"300":["sells apples"]}"#, "coded"),
            1 => (format!("number {index}. grows pears"), "[400]", r#"{"400":["grows pears"]}"#, "coded"),
            2 => (format!("repairs bikes in town {index}"), "[]", "{}", "outside"),
            _ => (format!("founded in 20{index:02} with partners"), "[]", "{}", "unspecified"),
        };
        lines += &format!(
            "{{\"id\":\"{index}\",\"text\":\"{text}\",\"status\":\"{status}\",\"scenarios\":{scenarios},\"evidence\":{evidence}}}\n"
        );
    }
    lines
}

fn workspace() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let encoder = directory.path().join("encoder");
    for (name, bytes) in Tiny::new("bert", "mean").files() {
        let path = encoder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    fs::write(directory.path().join("taxonomy.toml"), TAXONOMY).expect("written");
    fs::write(directory.path().join("labels.jsonl"), labels()).expect("written");
    directory
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("medscenario"));
    let output = command.args(arguments).current_dir(directory).output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn train(directory: &Path, output: &str, extra: &[&str]) {
    let fixed = [
        "-q",
        "train",
        "labels.jsonl",
        "--encoder",
        "encoder",
        "--taxonomy",
        "taxonomy.toml",
        "--units",
        "8",
        "--buckets",
        "64",
        "--batch-texts",
        "6",
        "--output",
        output,
    ];
    run(directory, &[&fixed[..], extra].concat());
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a bundle").map(|entry| entry.expect("readable").path());
    let files = entries.filter(|path| path.is_file());
    files
        .map(|path| (path.file_name().expect("named").to_string_lossy().into_owned(), fs::read(&path).expect("read")))
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bundle_and_another_seed_another() {
    let directory = workspace();
    for mode in [vec!["--freeze-encoder"], vec![]] {
        let name = |suffix: &str| format!("{}-{suffix}", mode.len());
        let with =
            |extra: &[&'static str]| [&["--epochs", "3", "--neighbours", "labels.jsonl"], &mode[..], extra].concat();
        train(directory.path(), &name("a"), &with(&["--seed", "7", "--jobs", "1"]));
        train(directory.path(), &name("b"), &with(&["--seed", "7", "--jobs", "3"]));
        train(directory.path(), &name("c"), &with(&["--seed", "8"]));
        let bundle = |suffix: &str| files(&directory.path().join(name(suffix)));
        assert_eq!(bundle("a"), bundle("b"), "threads do not matter");
        assert_ne!(bundle("a")["head.safetensors"], bundle("c")["head.safetensors"]);
        let frozen = bundle("a")["model.safetensors"]
            == fs::read(directory.path().join("encoder/model.safetensors")).expect("read");
        assert_eq!(frozen, !mode.is_empty(), "only fine-tuning changes the encoder");
    }
}

#[test]
fn a_bundle_for_another_taxonomy_learns_classifies_and_surveys() {
    let directory = workspace();
    train(
        directory.path(),
        "bundle",
        &["--epochs", "120", "--head-rate", "0.02", "--freeze-encoder", "--calibrate", "labels.jsonl"],
    );
    run(directory.path(), &["model", "verify", "bundle"]);
    let model = ["--model", "bundle", "--taxonomy", "taxonomy.toml"];
    let evaluated = run(
        directory.path(),
        &[&["eval", "-q", "labels.jsonl", "--format", "json", "--resamples", "5"], &model[..]].concat(),
    );
    let evaluated: serde_json::Value = serde_json::from_slice(&evaluated.stdout).expect("JSON");
    let f1 = evaluated["micro"]["f1"]["value"].as_f64().expect("a number");
    assert!(f1 > 0.9, "texts that it was trained on: {f1}");
    let survey = run(directory.path(), &[&["survey", "-q", "labels.jsonl", "--format", "json"], &model[2..]].concat());
    let survey: serde_json::Value = serde_json::from_slice(&survey.stdout).expect("JSON");
    assert_eq!(survey["totals"]["n_mentions"], 12);
    assert_eq!(survey["totals"]["scenarios_total"], 2);
    let output = Command::new(assert_cmd::cargo::cargo_bin!("medscenario"))
        .args(["lookup", "sells apples", "--model", "bundle"])
        .current_dir(directory.path())
        .output()
        .expect("runs");
    assert!(!output.status.success(), "the built-in taxonomy does not fit the bundle");
}

#[test]
fn folds_learn_from_the_calibration_texts_too_and_repeat() {
    let directory = workspace();
    let texts = labels();
    let (first, second) = texts.split_at(texts.match_indices('\n').nth(11).expect("24 lines").0 + 1);
    fs::write(directory.path().join("labels.jsonl"), first).expect("written");
    fs::write(directory.path().join("more.jsonl"), second).expect("written");
    let folds = ["--epochs", "3", "--freeze-encoder", "--calibrate", "more.jsonl", "--folds", "4"];
    let folds = [&folds[..], &["--neighbours", "labels.jsonl"]].concat();
    train(directory.path(), "a", &[&folds[..], &["--jobs", "1"]].concat());
    train(directory.path(), "b", &[&folds[..], &["--jobs", "3"]].concat());
    assert_eq!(files(&directory.path().join("a")), files(&directory.path().join("b")));
    let manifest: serde_json::Value =
        serde_json::from_slice(&files(&directory.path().join("a"))["manifest.json"]).expect("JSON");
    assert_eq!(manifest["training"]["n_texts"], 24, "12 texts to learn from and 12 to calibrate on");
    assert_eq!(manifest["training"]["n_calibration_texts"], 12);
    assert_eq!(manifest["training"]["n_neighbours"], 24, "those of calibration vote too");
    assert_eq!(manifest["training"]["neighbour_texts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn without_labels_the_nearest_scenario_of_any_taxonomy_is_found() {
    let directory = workspace();
    let lookup = |text: &str| -> serde_json::Value {
        let zero_shot = ["lookup", text, "--taxonomy", "taxonomy.toml", "--zero-shot", "--top", "2", "--json"];
        serde_json::from_slice(&run(directory.path(), &zero_shot).stdout).expect("JSON")
    };
    for (text, scenario) in [("apple", 300), ("pear", 400), ("苹果", 300), ("梨", 400)] {
        let found = lookup(text);
        assert_eq!(found["scenarios"][0]["scenario"], scenario, "{found}");
        assert_eq!(found["top"][0]["scenario"], scenario, "{found}");
        assert_eq!(found["review"], true, "nothing was fitted, so that a person should look");
        let sum: f64 = (0..2).filter_map(|at| found["top"][at]["probability"].as_f64()).sum();
        assert!((sum - 1.0).abs() < 2e-4, "{found}");
    }
}
