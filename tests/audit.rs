//! Promises of audits: a sheet that was drawn, filled in and read back corrects counts, and one that cannot is refused
//! with row and reason.

mod common;

use std::collections::BTreeSet;
use std::fs;

use assert_cmd::cargo::cargo_bin_cmd;
use common::Workspace;
use medscenario::taxonomy::Taxonomy;
use serde_json::{Value, json};

/// True scenarios of record `index`.
fn truth(index: usize) -> BTreeSet<u32> {
    match index % 5 {
        0 => [8, 10].into(),
        1 | 2 => [65].into(),
        3 => [1].into(),
        _ => BTreeSet::new(),
    }
}

/// A coded file: every seventh record is coded wrongly.
fn coded(count: usize, probabilities: bool) -> String {
    let taxonomy = Taxonomy::builtin();
    let mut lines = String::new();
    for index in 0..count {
        let mut scenarios = truth(index);
        if index % 7 == 0 {
            scenarios = if scenarios.contains(&65) { [3].into() } else { [65].into() };
        }
        let status = if scenarios.is_empty() { "unspecified" } else { "coded" };
        let mut line = json!({
            "id": format!("r{index}"), "status": status, "scenarios": scenarios,
            "text": format!("第{index}个产品的描述，有“引号”, 逗号。"), "taxonomy": taxonomy.label(),
            "columns": {"developer": format!("d{}", index / 3), "year": format!("202{}", index % 3)},
        });
        if probabilities {
            let probability = |id: u32| match id {
                _ if scenarios.contains(&id) => 0.8,
                1 | 8 | 10 | 65 => 0.03,
                _ => 0.002,
            };
            line["probabilities"] = taxonomy.scenarios.iter().map(|scenario| probability(scenario.id)).collect();
        }
        lines += &format!("{line}\n");
    }
    lines
}

/// Rows of a sheet, the header first.
type Rows = Vec<Vec<String>>;

fn read(workspace: &Workspace, name: &str) -> Rows {
    let text = fs::read_to_string(workspace.path(name)).expect("the sheet is there");
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    reader.records().map(|record| record.expect("CSV").iter().map(str::to_owned).collect()).collect()
}

fn write(workspace: &Workspace, name: &str, rows: &Rows) {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(row).expect("memory"));
    workspace.file(name, writer.into_inner().expect("memory"));
}

fn column(rows: &Rows, name: &str) -> usize {
    rows[0].iter().position(|header| header == name).expect("the column is there")
}

fn set(rows: &mut Rows, row: usize, name: &str, value: &str) {
    let column = column(rows, name);
    rows[row][column] = value.to_owned();
}

/// Fills in what `code` says of each record.
fn fill(rows: &mut Rows, code: impl Fn(usize) -> BTreeSet<u32>) {
    for row in 1..rows.len() {
        let index: usize = rows[row][0][1..].parse().expect("a number");
        let scenarios: Vec<String> = code(index).iter().map(u32::to_string).collect();
        set(rows, row, "status", if scenarios.is_empty() { "outside" } else { "coded" });
        set(rows, row, "scenarios", &scenarios.join(";"));
    }
}

/// A workspace with a coded file, and a sheet of 30 records that is rightly filled in.
fn audited(design: &str) -> (Workspace, Rows) {
    let workspace = Workspace::new();
    workspace.file("coded.jsonl", coded(120, true));
    let drawn = workspace.run(&format!("audit sample coded.jsonl -n 30 --design {design} --seed 5 -o sheet.csv"));
    assert!(drawn.contains("exit status 0"), "{drawn}");
    let mut rows = read(&workspace, "sheet.csv");
    fill(&mut rows, truth);
    write(&workspace, "sheet.csv", &rows);
    (workspace, rows)
}

fn survey(workspace: &Workspace, arguments: &str) -> Value {
    let mut command = cargo_bin_cmd!("medscenario");
    let arguments = format!("survey coded.jsonl --format json {arguments}");
    let output = command.current_dir(workspace.path("")).args(arguments.split_whitespace()).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn row<'a>(survey: &'a Value, level: &str, id: u32) -> &'a Value {
    let rows = survey["frequencies"].as_array().expect("rows");
    rows.iter().find(|row| row["level"] == level && row["id"] == id).expect("the row is there")
}

#[test]
fn a_filled_sheet_corrects_counts_in_every_design() {
    for design in ["random", "stratified", "uncertainty"] {
        let (workspace, _) = audited(design);
        let found = survey(&workspace, "--audit sheet.csv --by year");
        let raw = survey(&workspace, "");
        for (id, total) in [(65, 48.0), (8, 24.0), (3, 0.0)] {
            let row = row(&found, "scenario", id);
            let estimate = &row["corrected"]["mentions"];
            let at = |key: &str| estimate[key].as_f64().expect("a number");
            assert!(at("low") <= total && total <= at("high"), "{design}: scenario {id}, {total} in {estimate}");
        }
        // Scenario 3 was assigned a few times, and never rightly.
        let wrong = row(&found, "scenario", 3);
        assert!(wrong["corrected"]["mentions"]["value"].as_f64() < wrong["mentions"].as_f64(), "{design}: {wrong}");
        assert_eq!(row(&found, "scenario", 65)["mentions"], row(&raw, "scenario", 65)["mentions"]);
        assert_eq!(raw["totals"]["corrected"], Value::Null);
        assert_eq!(found["audit"]["n_audited"], 30);
        let group = &found["breakdowns"][0]["groups"][0]["totals"]["corrected"]["mentions"];
        assert!(group["low"].as_f64() <= group["value"].as_f64(), "{group}");
    }
}

#[test]
fn the_same_audit_gives_the_same_figures() {
    let (workspace, _) = audited("uncertainty");
    assert_eq!(survey(&workspace, "--audit sheet.csv"), survey(&workspace, "--audit sheet.csv"));
    let drawn = |seed: u32| {
        workspace.run(&format!("audit sample coded.jsonl -n 30 --seed {seed} -o other{seed}.csv"));
        fs::read(workspace.path(&format!("other{seed}.csv"))).expect("written")
    };
    let first = drawn(1);
    assert_eq!(first, drawn(1));
    assert_ne!(first, drawn(2));
}

#[test]
fn a_census_leaves_nothing_to_estimate() {
    let workspace = Workspace::new();
    workspace.file("coded.jsonl", coded(60, false));
    workspace.run("audit sample coded.jsonl -n 60 -o sheet.csv");
    let mut rows = read(&workspace, "sheet.csv");
    fill(&mut rows, truth);
    write(&workspace, "sheet.csv", &rows);
    let found = survey(&workspace, "--audit sheet.csv");
    let estimate = &row(&found, "scenario", 65)["corrected"]["mentions"];
    assert_eq!(*estimate, json!({"value": 24.0, "low": 24.0, "high": 24.0, "method": "census"}));
    let share = &row(&found, "scenario", 65)["corrected"]["share_of_mentions"];
    assert_eq!(share["value"], share["low"]);
    assert_eq!(row(&found, "scenario", 65)["expected_mentions"], Value::Null);
}

#[test]
fn sheets_survive_a_workbook_and_clusters_widen_intervals() {
    let workspace = Workspace::new();
    // Workbooks keep lines within a cell, and may change their ends.
    workspace.file("coded.jsonl", coded(120, true).replace("描述，", "描述，\\r\\n"));
    let drawn = workspace.run("audit sample coded.jsonl -n 30 --cluster developer --show-predictions -o sheet.xlsx");
    assert!(drawn.contains("exit status 0"), "{drawn}");
    let empty = workspace.run("audit score coded.jsonl sheet.xlsx");
    assert!(empty.contains("exit status 0"), "{empty}");
    let refused = workspace.run("survey coded.jsonl --audit sheet.xlsx");
    assert!(refused.contains("`sheet.xlsx` row 2, column `status`: the row is still empty"), "{refused}");
    assert!(refused.contains("exit status 1"), "{refused}");
    let (workspace, _) = audited("random");
    let found = survey(&workspace, "--audit sheet.csv --cluster developer");
    assert_eq!(found["audit"]["cluster"], "developer");
    assert!(found["audit"]["design_effect"].as_f64() >= Some(1.0));
    let refused = workspace.run("survey coded.jsonl --audit sheet.csv --cluster maker");
    assert!(refused.contains("no record has a column `maker`"), "{refused}");
}

#[test]
fn two_coders_are_compared_and_their_difference_counts() {
    let (workspace, mut rows) = audited("random");
    set(&mut rows, 1, "scenarios", "");
    set(&mut rows, 1, "status", "unspecified");
    write(&workspace, "second.csv", &rows);
    let scored = workspace.run_with(&["audit", "score", "coded.jsonl", "sheet.csv", "second.csv", "--json"], b"");
    assert!(scored.contains("exit status 0"), "{scored}");
    let one = survey(&workspace, "--audit sheet.csv");
    let two = survey(&workspace, "--audit sheet.csv --audit second.csv");
    let differing = usize::from(read(&workspace, "sheet.csv")[1] != rows[1]);
    assert_eq!((&one["audit"]["n_differing"], &two["audit"]["n_differing"]), (&json!(0), &json!(differing)));
    // An adjudicated coding settles it.
    rows[0].push("adjudicated".to_owned());
    rows.iter_mut().skip(1).for_each(|row| row.push(String::new()));
    let index: usize = rows[1][0][1..].parse().expect("a number");
    let right: Vec<String> = truth(index).iter().map(u32::to_string).collect();
    set(&mut rows, 1, "adjudicated", if right.is_empty() { "outside".to_owned() } else { right.join(";") }.as_str());
    write(&workspace, "second.csv", &rows);
    let settled = survey(&workspace, "--audit sheet.csv --audit second.csv");
    assert_eq!(settled["audit"]["n_differing"], 0);
    assert_eq!(settled["totals"]["corrected"], one["totals"]["corrected"]);
}

#[test]
fn what_cannot_correct_counts_is_refused_with_row_and_reason() {
    let (workspace, right) = audited("random");
    let coded_index =
        (1..right.len()).find(|&row| right[row][column(&right, "status")] == "coded").expect("one is coded");
    type Change = Box<dyn Fn(&mut Rows)>;
    let cell = |name: &'static str, value: &'static str| -> Change {
        Box::new(move |rows: &mut Rows| set(rows, coded_index, name, value))
    };
    let row = coded_index + 1;
    let cases: Vec<(&str, Change, String)> = vec![
        ("an unknown id", cell("id", "r999"), format!("row {row}, column `id`: `r999` is not in the coded file")),
        ("an altered text", cell("text", "改过的描述"), format!("row {row}, column `text`: the text of `r")),
        (
            "no probability",
            cell("inclusion_probability", ""),
            format!("row {row}, column `inclusion_probability`: it is missing; labels without sampling probabilities"),
        ),
        (
            "an impossible probability",
            cell("inclusion_probability", "1.5"),
            format!("row {row}, column `inclusion_probability`: `1.5` is no probability"),
        ),
        (
            "another probability",
            cell("inclusion_probability", "0.5"),
            format!(
                "row {row}, column `inclusion_probability`: 0.5 is impossible: a random sample of 30 from 120 records"
            ),
        ),
        (
            "removed rows",
            Box::new(|rows: &mut Rows| drop(rows.pop())),
            "row 2, column `inclusion_probability`: 0.25 is impossible: a random sample of 29 from 120 records"
                .to_owned(),
        ),
        ("no status", cell("status", ""), format!("row {row}, column `status`: the row is half filled")),
        ("no scenario", cell("scenarios", ""), format!("row {row}, column `scenarios`: the row is half filled")),
        ("a wrong status", cell("status", "done"), format!("row {row}, column `status`: unknown status `done`")),
        (
            "scenarios outside",
            cell("status", "outside"),
            format!("row {row}, column `scenarios`: the status is outside"),
        ),
        (
            "an unknown scenario",
            cell("scenarios", "8;99"),
            format!("row {row}, column `scenarios`: `99` is no scenario of taxonomy"),
        ),
        (
            "a repeated scenario",
            cell("scenarios", "8；8"),
            format!("row {row}, column `scenarios`: scenario 8 stands there twice"),
        ),
        ("a repeated row", Box::new(|rows: &mut Rows| rows.push(rows[1].clone())), "row 32, column `id`: `".to_owned()),
        (
            "contradicting codes",
            Box::new(|rows: &mut Rows| {
                rows.push(rows[1].clone());
                let last = rows.len() - 1;
                set(rows, last, "status", "coded");
                set(rows, last, "scenarios", "84");
            }),
            "is coded in row 2 otherwise; a sheet holds one coder's codes".to_owned(),
        ),
        (
            "another coded file",
            Box::new(|rows: &mut Rows| (1..rows.len()).for_each(|row| set(rows, row, "coded_sha256", "0123"))),
            "column `coded_sha256`: the sheet was drawn from the coded file `0123`".to_owned(),
        ),
        (
            "another taxonomy",
            Box::new(|rows: &mut Rows| (1..rows.len()).for_each(|row| set(rows, row, "taxonomy", "other@1"))),
            "column `taxonomy`: the sheet was coded with taxonomy `other@1`".to_owned(),
        ),
        (
            "an empty row",
            Box::new(|rows: &mut Rows| {
                set(rows, 1, "status", "");
                set(rows, 1, "scenarios", "");
            }),
            "row 2, column `status`: the row is still empty".to_owned(),
        ),
        (
            "another design",
            cell("design", "snowball"),
            format!("row {row}, column `design`: unknown design `snowball`"),
        ),
    ];
    for (what, change, expected) in cases {
        let mut rows = right.clone();
        change(&mut rows);
        write(&workspace, "wrong.csv", &rows);
        let found = workspace.run("survey coded.jsonl --audit wrong.csv");
        assert!(found.contains("exit status 1, no output"), "{what}: {found}");
        assert!(found.contains(&expected), "{what}: {found}");
    }
}

#[test]
fn sheets_of_different_samples_do_not_mix() {
    let (workspace, _) = audited("random");
    workspace.run("audit sample coded.jsonl -n 30 --seed 6 -o other.csv");
    let mut rows = read(&workspace, "other.csv");
    fill(&mut rows, truth);
    write(&workspace, "other.csv", &rows);
    let found = workspace.run("survey coded.jsonl --audit sheet.csv --audit other.csv");
    assert!(found.contains("is not in `other.csv`; both coders code copies of one sheet"), "{found}");
    let found = workspace.run("survey coded.jsonl --audit sheet.csv --audit other.csv --audit sheet.csv");
    assert!(found.contains("an audit has one coder or two"), "{found}");
}

#[test]
fn samples_that_cannot_be_drawn_are_refused() {
    let workspace = Workspace::new();
    workspace.file("coded.jsonl", coded(20, false));
    let bare = coded(20, false).lines().map(|line| line.replace("\"text\"", "\"texte\"") + "\n").collect::<String>();
    workspace.file("bare.jsonl", bare);
    workspace.file("table.csv", "text\n用于导诊\n");
    for (command, expected) in [
        ("audit sample coded.jsonl -n 21 -o s.csv", "a sample of 21 was asked for, and there are 20 records"),
        ("audit sample coded.jsonl -n 5 --design uncertainty -o s.csv", "classify again with --probabilities"),
        ("audit sample bare.jsonl -n 5 -o s.csv", "classify again with --keep-text"),
        ("audit sample coded.jsonl -n 5 -o s.ods", "expected .csv, .tsv or .xlsx"),
        ("audit sample coded.jsonl -n 5 -o coded.jsonl.csv --cluster maker", "no record has a column `maker`"),
        ("survey table.csv --audit s.csv", "an audit sheet belongs to the output of `classify`"),
    ] {
        let found = workspace.run(command);
        assert!(found.contains("exit status 1") && found.contains(expected), "{found}");
    }
}

#[test]
fn coded_files_with_wrong_probabilities_are_refused() {
    let workspace = Workspace::new();
    let line = coded(1, true);
    workspace.file("short.jsonl", line.replacen("0.002,", "", 1));
    workspace.file("wrong.jsonl", line.replacen("0.002,", "1.2,", 1));
    let found = workspace.run("survey short.jsonl");
    assert!(found.contains("`probabilities` has 83 numbers, and taxonomy `nhc-2024` has 84 scenarios"), "{found}");
    let found = workspace.run("survey wrong.jsonl");
    assert!(found.contains("`probabilities` has 1.2; expected numbers from 0 to 1"), "{found}");
}

#[test]
fn plans_shrink_with_what_is_known() {
    let (workspace, _) = audited("random");
    let needed = |arguments: &str| -> u64 {
        let mut command = cargo_bin_cmd!("medscenario");
        let arguments = format!("audit plan {arguments} --json");
        let output = command.current_dir(workspace.path("")).args(arguments.split_whitespace()).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let needs: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        needs[0]["n_audited"].as_u64().expect("a number")
    };
    assert_eq!(needed("--width 0.1"), 385);
    let counted = needed("coded.jsonl --width 0.1 --level scenario --id 65");
    assert!(counted < 120, "{counted}");
    assert!(needed("coded.jsonl --width 0.3 --level scenario --id 65") <= counted);
    assert!(needed("coded.jsonl --pilot sheet.csv --width 0.1 --level scenario --id 84") <= counted);
    let refused = workspace.run("audit plan coded.jsonl --width 0.1 --id 99");
    assert!(refused.contains("no such entry with the number 99"), "{refused}");
}
