//! Promises of other taxonomies: records are counted in them through a crosswalk, a wrong one is refused with its line,
//! and what differs between two taxonomies is said.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin_cmd;
use common::Workspace;
use insta::assert_snapshot;
use medscenario::labels::Status;
use medscenario::prediction::{Assigned, Prediction};
use medscenario::survey::{Coded, Level, Surveyor};
use medscenario::taxonomy::crosswalk::Crosswalk;
use medscenario::taxonomy::{Id, Taxonomy};
use proptest::prelude::*;
use serde_json::{Value, json};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/taxonomy").join(name)
}

/// A workspace with the modes of use, the crosswalk to them, and four coded records.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    let copy = |from: &str, to: &str| {
        workspace.file(to, std::fs::read(data(from)).expect("it is shipped"));
    };
    copy("use-mode/taxonomy.toml", "use-mode.toml");
    copy("model-type/taxonomy.toml", "model-type.toml");
    copy("crosswalk/nhc-2024--use-mode.sssom.tsv", "modes.sssom.tsv");
    let span = |start: u32, text: &str| json!({"start": start, "end": start + 1, "text": text});
    let full = |id: u32, probability: f64, text: &str| json!({"scenario": id, "probability": probability, "evidence": [span(id, text)]});
    let label = Taxonomy::builtin().label();
    let records = [
        // 1 and 3 are serious, 8 is patient-centred.
        json!({"id": "a", "status": "coded", "scenarios": [full(1, 0.6, "x"), full(3, 0.9, "y"), full(8, 0.5, "z")],
               "text": "xyz", "columns": {"year": "2024"}, "taxonomy": label}),
        // 1 is serious, 69 has no counterpart.
        json!({"id": "b", "status": "coded", "scenarios": [1, 69], "columns": {"year": "2025"}, "taxonomy": label}),
        // 56 and 69 have none.
        json!({"id": "c", "status": "coded", "scenarios": [56, 69], "columns": {"year": "2025"}, "taxonomy": label}),
        json!({"id": "d", "status": "unspecified", "scenarios": [], "columns": {"year": "2025"}, "taxonomy": label}),
    ];
    workspace.file("coded.jsonl", records.map(|record| format!("{record}\n")).concat());
    workspace
}

const THROUGH: &str = "survey coded.jsonl --taxonomy use-mode.toml --crosswalk modes.sssom.tsv";

fn stdout(workspace: &Workspace, arguments: &str) -> String {
    let mut command = cargo_bin_cmd!("medscenario");
    command.current_dir(workspace.path("")).env_remove("MEDSCENARIO_LANG").args(arguments.split_whitespace());
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the program writes UTF-8")
}

#[test]
fn coded_records_are_counted_in_another_taxonomy() {
    let survey: Value =
        serde_json::from_str(&stdout(&workspace(), &format!("{THROUGH} --by year --format json"))).expect("JSON");
    let totals = &survey["totals"];
    let counts = ["n_records", "n_coded", "n_outside", "n_unspecified", "n_mentions"].map(|key| totals[key].as_u64());
    assert_eq!(counts, [4, 2, 1, 1, 3].map(Some));
    let rows = survey["frequencies"].as_array().expect("rows");
    let modes: Vec<u64> =
        rows.iter().filter(|row| row["level"] == "scenario").filter_map(|row| row["mentions"].as_u64()).collect();
    assert_eq!(modes, [2, 0, 1, 0]);
    let derived = &survey["derived"];
    let lost =
        ["n_mentions", "n_without_counterpart", "n_records_without_counterpart"].map(|key| derived[key].as_u64());
    assert_eq!(lost, [7, 3, 1].map(Some));
    assert_eq!(derived["from"], Taxonomy::builtin().label());
    assert!(survey["model"].as_str().expect("text").starts_with("coded input through crosswalk nhc-2024--use-mode@"));
    assert_eq!(survey["breakdowns"][0]["groups"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_table_says_what_has_no_counterpart() {
    let text = stdout(&workspace(), THROUGH);
    let said = "3 of 7 mentions have no counterpart in use-mode@";
    assert!(text.contains(said) && text.contains("leaves 1 coded products without any"), "{text}");
}

#[test]
fn the_report_and_the_workbook_say_that_counts_are_derived() {
    let workspace = workspace();
    stdout(&workspace, &format!("{THROUGH} --report survey.html -o survey.xlsx"));
    let page = std::fs::read_to_string(workspace.path("survey.html")).expect("written");
    assert!(page.contains("3 of 7 mentions have no counterpart"), "the caution is missing");
    assert!(workspace.path("survey.xlsx").exists());
}

#[test]
fn raw_tables_are_counted_too_and_the_output_says_how() {
    let workspace = workspace();
    workspace.file("raw.csv", "id,description\na,Drafts discharge summaries for ward doctors\n");
    let model = |flags: &str| -> String {
        let text = stdout(&workspace, &format!("survey raw.csv --taxonomy use-mode.toml --format json {flags}"));
        let survey: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(survey["totals"]["n_records"], 1);
        survey["model"].as_str().expect("text").to_owned()
    };
    assert!(model("--crosswalk modes.sssom.tsv").contains(" (trained) through crosswalk nhc-2024--use-mode@"));
    assert!(model("--zero-shot").ends_with(" (zero-shot)"));
}

#[test]
fn implied_entries_keep_the_evidence_of_what_implies_them() {
    let (source, target) = (Taxonomy::builtin(), Taxonomy::from_path(&data("use-mode")).expect("sound"));
    let path = data("crosswalk/nhc-2024--use-mode.sssom.tsv");
    let crosswalk = Crosswalk::read(&path, &source, &target).expect("sound");
    let text = std::fs::read_to_string(workspace().path("coded.jsonl")).expect("written");
    let first: Prediction = serde_json::from_str(text.lines().next().expect("a line")).expect("a prediction");
    let (mapped, without) = first.through(&crosswalk, &target);
    assert_eq!((without, mapped.status, mapped.taxonomy), (0, Status::Coded, target.label()));
    let Assigned::Full { scenario, probability, evidence } = &mapped.scenarios[0] else { panic!("in full") };
    let texts: Vec<&str> = evidence.iter().map(|span| span.text.as_str()).collect();
    assert_eq!((*scenario, *probability, texts), (1, 0.9, vec!["x", "y"]));
    assert_eq!((mapped.categories, mapped.sections), target.ancestors([1, 3]));
}

#[test]
fn wrong_crosswalks_and_flags_are_refused() {
    let workspace = workspace();
    let text = std::fs::read_to_string(workspace.path("modes.sssom.tsv")).expect("written");
    workspace.file("unknown.tsv", text.replacen("nhc2024:2\t", "nhc2024:99\t", 1));
    workspace.file("prefix.tsv", text.replacen("\tusemode:1\t", "\tmode:1\t", 1));
    workspace.file("predicate.tsv", text.replacen("skos:broadMatch\t", "skos:sameAs\t", 1));
    let last = text.lines().last().expect("a line");
    workspace.file("twice.tsv", format!("{text}{last}\n"));
    let with = |file: &str| format!("survey coded.jsonl --taxonomy use-mode.toml --crosswalk {file}");
    for (arguments, said) in [
        (with("unknown.tsv"), "line 19: `subject_id` is `nhc2024:99`; expected a scenario of `nhc-2024@"),
        (with("prefix.tsv"), "`object_id` is `mode:1`; prefix `mode` is not in `curie_map`"),
        (with("predicate.tsv"), "`predicate_id` is `skos:sameAs`; expected one of skos:exactMatch"),
        (with("twice.tsv"), "to it already; keep one of the two"),
        (with("missing.tsv"), "Failed to read crosswalk `missing.tsv`"),
        (with("use-mode.toml"), "it has no `mapping_set_id`"),
        (
            "survey coded.jsonl --taxonomy model-type.toml --crosswalk modes.sssom.tsv".to_owned(),
            "its `object_source` is `medscenario:use-mode`, and taxonomy `model-type` is loaded",
        ),
        (
            format!("{THROUGH} --source-taxonomy model-type.toml"),
            "its `subject_source` is `medscenario:nhc-2024`, and taxonomy `model-type` is loaded",
        ),
        ("survey coded.jsonl --taxonomy use-mode.toml".to_owned(), "it was coded with taxonomy `nhc-2024@"),
    ] {
        let transcript = workspace.run(&arguments);
        assert!(transcript.contains("exit status 1, no output") && transcript.contains(said), "{transcript}");
    }
    for wrong in ["--zero-shot", "--audit coded.jsonl"] {
        let transcript = workspace.run(&format!("{THROUGH} {wrong}"));
        assert!(transcript.contains("exit status 2"), "{transcript}");
    }
}

const OLD: &str = r#"format = 1
id = "small"
version = "1"
title = { zh = "小", en = "Small" }
section = [{ id = 1, name = { zh = "部", en = "Section" } }]
category = [
    { id = 1, section = 1, name = { zh = "甲类", en = "First" } },
    { id = 2, section = 1, name = { zh = "乙类", en = "Second" } },
]
[[scenario]]
id = 1
category = 1
name = { zh = "导诊", en = "Triage" }
definition = { zh = "分诊", en = "Directs patients" }
terms = { zh = ["分诊", "导医"], en = ["triage"] }
[[scenario]]
id = 2
category = 1
name = { zh = "随访", en = "Follow-up" }
excludes = [{ neighbour = 1, zh = "就诊前", en = "Before the visit" }]
[[scenario]]
id = 3
category = 2
name = { zh = "质控", en = "Quality control" }
"#;

#[test]
fn a_diff_names_what_was_added_removed_renamed_moved_and_reworded() {
    let workspace = Workspace::new();
    let new = OLD
        .replace("version = \"1\"", "version = \"2\"")
        .replace("en = \"Second\"", "en = \"Other\"")
        .replace("en = \"Triage\"", "en = \"Outpatient triage\"")
        .replace("en = \"Directs patients\"", "en = \"Directs patients to a department\"")
        .replace("\"导医\"", "\"智能导诊\"")
        .replace("id = 2\ncategory = 1", "id = 2\ncategory = 2")
        .replace("neighbour = 1", "neighbour = 0")
        .replace("id = 3\ncategory = 2", "id = 4\ncategory = 2");
    workspace.file("old/taxonomy.toml", OLD).file("new/taxonomy.toml", new);
    assert_snapshot!(stdout(&workspace, "taxonomy diff old new"), @r"
    small@[digest] → small@[digest]

    Document
        version
          - 1
          + 2

    Categories: 0 added, 0 removed, 1 changed
    ~ 2 乙类 / Other
        renamed (en)
          - Second
          + Other

    Scenarios: 1 added, 1 removed, 2 changed
    ~ 1 导诊 / Outpatient triage
        renamed (en)
          - Triage
          + Outpatient triage
        definition (en)
          - Directs patients
          + Directs patients to a department
        terms (zh)
          - 导医
          + 智能导诊
    ~ 2 随访 / Follow-up
        moved to another category
          - 1
          + 2
        excludes (zh)
          - 就诊前 → 1
          + 就诊前 → 0
        excludes (en)
          - Before the visit → 1
          + Before the visit → 0
    - 3 质控 / Quality control
    + 4 质控 / Quality control
    ");
    let json: Value = serde_json::from_str(&stdout(&workspace, "taxonomy diff old new --json")).expect("JSON");
    let moved = json!({"field": "category", "lang": null, "old": "1", "new": "2"});
    assert_eq!(json["scenarios"][1]["edits"][0], moved);
    assert_eq!(json["scenarios"][2]["change"], "removed");
    let same = stdout(&workspace, "taxonomy diff old old/taxonomy.toml");
    assert!(same.ends_with("no differences\n"), "{same}");
    let builtin = format!("taxonomy diff nhc-2024 {}", data("nhc-2024").display());
    assert!(stdout(&workspace, &builtin).ends_with("no differences\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn mapped_counts_never_exceed_records(
        sets in proptest::collection::vec(proptest::collection::btree_set(1u32..=84, 0..8), 1..20)
    ) {
        let source = Taxonomy::builtin();
        for name in ["use-mode", "model-type", "vbinsight-domains-2023"] {
            let target = Taxonomy::from_path(&data(name)).expect("sound");
            let path = data(&format!("crosswalk/nhc-2024--{name}.sssom.tsv"));
            let crosswalk = Crosswalk::read(&path, &source, &target).expect("sound");
            let mut surveyor = Surveyor::new(&target, &[]);
            for (index, set) in sets.iter().enumerate() {
                let status = if set.is_empty() { "outside" } else { "coded" };
                let line = json!({"id": index.to_string(), "status": status, "scenarios": set});
                let coded: Prediction = serde_json::from_value(line).expect("a prediction");
                let (mapped, without) = coded.through(&crosswalk, &target);
                let ids: Vec<Id> = mapped.scenarios.iter().map(Assigned::id).collect();
                prop_assert!(without <= set.len());
                prop_assert_eq!(mapped.status == Status::Coded, !ids.is_empty());
                prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
                surveyor.add(
                    &Coded { id: &mapped.id, status: mapped.status, scenarios: &ids, probabilities: &[], truncated: false },
                    |_| None,
                );
            }
            let survey = surveyor.finish(target.label(), String::new(), 0);
            for row in &survey.frequencies {
                prop_assert!(row.records <= survey.totals.n_coded && row.records <= row.mentions);
                prop_assert!(row.level != Level::Scenario || row.mentions <= sets.len() as u64);
            }
        }
    }
}
