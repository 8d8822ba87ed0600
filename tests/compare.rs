//! Promises of `survey --compare`, `--report`, `--charts` and of workbooks: what stands beside what, in which formats,
//! and what is refused. All inputs are coded records, so that no model runs.

use std::path::Path;

use assert_cmd::cargo::cargo_bin_cmd;
use insta::assert_snapshot;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Workspace {
    directory: TempDir,
}

impl Workspace {
    /// Two surveys: four products in January, of which two are coded otherwise in May, and two new ones.
    fn new() -> Workspace {
        let record = |id: &str, scenarios: &[u32], released: &str| {
            json!({"id": id, "status": if scenarios.is_empty() { "unspecified" } else { "coded" }, "scenarios": scenarios,
                   "columns": {"released": released, "model_type": if scenarios.contains(&22) { "tcm" } else { "text" }}})
        };
        let january = [
            record("a", &[3, 8], "2023-05"),
            record("b", &[1], "2024-11"),
            record("c", &[8, 10], "2024"),
            record("d", &[], ""),
        ];
        let may = [
            record("a", &[3, 8], "2023-05"),
            record("b", &[1, 15], "2024-11"),
            record("c", &[10], "2024"),
            record("d", &[39], ""),
            record("e", &[3, 22], "2025-03"),
            record("f", &[3, 65], "2025-06"),
        ];
        let workspace = Workspace { directory: tempfile::tempdir().expect("a temporary directory") };
        for (name, records) in [("january.jsonl", &january[..]), ("may.jsonl", &may[..])] {
            let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
            std::fs::write(workspace.path(name), lines).expect("written");
        }
        workspace
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the program; a transcript of exit status, standard error and standard output.
    fn run(&self, arguments: &str) -> String {
        let output = cargo_bin_cmd!("medscenario")
            .current_dir(self.directory.path())
            .args(arguments.split_whitespace())
            .env_remove("MEDSCENARIO_LANG")
            .output()
            .expect("the program starts");
        let status = output.status.code().expect("the program ends by itself");
        let [stderr, stdout] =
            [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        format!("exit status {status}\n{stderr}{stdout}")
    }

    fn json(&self, arguments: &str) -> Value {
        let text = self.run(arguments);
        serde_json::from_str(text.strip_prefix("exit status 0\n").expect("well")).expect("JSON")
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn two_dates_are_compared_with_what_moved_and_how_far_they_cover_the_same() {
    assert_snapshot!(Workspace::new().run("survey may.jsonl --compare january.jsonl --resamples 200"), @"");
}

#[test]
fn a_published_survey_is_the_default_and_only_its_figures_are_compared() {
    assert_snapshot!(Workspace::new().run("survey may.jsonl --compare --resamples 200"), @"");
}

#[test]
fn tables_are_chinese_where_asked() {
    let text = Workspace::new().run("survey may.jsonl --lang zh --resamples 10 --compare");
    for wanted in ["与已发表的调研", "医疗服务类占全部提及的比例", "智能预问诊", "不计算秩相关"]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn tidy_csv_has_one_row_per_figure() {
    let workspace = Workspace::new();
    let text = workspace.run("survey may.jsonl --compare january.jsonl --resamples 200 --format csv");
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(rows[0], "figure,level,id,name_zh,name_en,this,other,value,low,high,unit,remark");
    let share = rows.iter().find(|row| row.starts_with("share_of_mentions,scenario,8,")).expect("a row");
    assert!(share.contains(",0.100000,0.400000,-0.300000,"), "{share}");
    let text = workspace.run("survey may.jsonl --compare vbinsight-2025 --resamples 200 --format csv");
    let row = text.lines().find(|row| row.starts_with("models-2024,")).expect("a row");
    assert!(row.contains(",2,94,,,,count,products of this survey without a year: 1"), "{row}");
}

#[test]
fn a_result_compares_like_its_records_but_without_their_sampling_error() {
    let workspace = Workspace::new();
    workspace.run("survey january.jsonl --by year --format json -o january.json");
    let counts = workspace.json("survey may.jsonl --compare january.json --resamples 50 --format json");
    let records = workspace.json("survey may.jsonl --compare january.jsonl --resamples 50 --format json");
    assert_eq!(counts["n_common"], Value::Null);
    assert_eq!(records["n_common"], 4);
    for (left, right) in
        counts["likeness"].as_array().expect("rows").iter().zip(records["likeness"].as_array().expect("rows"))
    {
        assert_eq!(left["total_variation"]["value"], right["total_variation"]["value"]);
        assert_eq!(left["spearman"]["value"], right["spearman"]["value"]);
    }
    assert_eq!(counts["scope"][1]["other"]["en"], "2023 to 2024, 1 without a year");
}

#[test]
fn comparisons_with_nothing_that_can_be_compared_are_refused() {
    let workspace = Workspace::new();
    std::fs::write(workspace.path("notes.json"), "{}").expect("written");
    std::fs::write(workspace.path("empty.jsonl"), "").expect("written");
    let refusals = [
        "survey may.jsonl --compare nowhere",
        "survey may.jsonl --compare notes.json",
        "survey may.jsonl --compare empty.jsonl",
        "survey may.jsonl --format xlsx",
        "survey may.jsonl --report may.jsonl",
        "survey may.jsonl -o out.html --report out.html",
        "survey may.jsonl --resamples 10",
        "survey may.jsonl --chart-format png",
    ];
    let transcript: Vec<String> = refusals.iter().map(|line| format!("$ {line}\n{}", workspace.run(line))).collect();
    assert_snapshot!(transcript.join("\n"), @"");
}

#[test]
fn reports_charts_and_workbooks_have_the_same_bytes_every_time() {
    let workspace = Workspace::new();
    let command = |run: &str| {
        format!(
            "survey may.jsonl --compare january.jsonl --resamples 50 --report {run}.html --charts {run} -o {run}.xlsx"
        )
    };
    for run in ["one", "two"] {
        assert_eq!(
            workspace.run(&(command(run) + " --jobs 1")),
            "exit status 0\nnote: the input has no descriptions, so that the report shows evidence without its text; \
             survey the table itself, or use the output of `classify --keep-text`\n"
        );
    }
    assert_eq!(bytes(&workspace.path("one.html")), bytes(&workspace.path("two.html")));
    assert_eq!(bytes(&workspace.path("one.xlsx")), bytes(&workspace.path("two.xlsx")));
    for chart in ["categories", "scenarios", "coverage", "years", "model-types", "co-occurrence"] {
        let [one, two] = ["one", "two"].map(|run| bytes(&workspace.path(&format!("{run}/{chart}.svg"))));
        assert_eq!(one, two, "{chart}");
    }
    assert!(!workspace.path("one/developer-types.svg").exists(), "there is no such column");
    let page = String::from_utf8(bytes(&workspace.path("one.html"))).expect("UTF-8");
    assert!(page.contains("january.jsonl") && !page.contains(&workspace.directory.path().display().to_string()));
}
