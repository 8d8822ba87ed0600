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
    assert_snapshot!(Workspace::new().run("survey may.jsonl --compare january.jsonl --resamples 200"), @r#"
    exit status 0
    may.jsonl beside january.jsonl

    Scope
    ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
                  This survey                                  The other
    ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     population   products in may.jsonl                        products in january.jsonl                    differs
     window       2023 to 2025, 1 without a year               2023 to 2024, 1 without a year               differs
     products     6                                            4                                            differs
     mentions     10                                           5                                            differs
     coder        coded input; the coder is not recorded       coded input; the coder is not recorded       same
     unit         mention: one product used for one scenario   mention: one product used for one scenario   same
     taxonomy     nhc-2024@a3f9c5403143                        nhc-2024@a3f9c5403143                        same
    ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    4 products occur in both, by their ids.

    Likeness
    ──────────────────────────────────────────────────────────────────────────────────────
     Level        Entries   Total variation               Spearman          Kendall tau-b
    ──────────────────────────────────────────────────────────────────────────────────────
     sections           4             0.200   0.816 [0.775, 1.000]   0.775 [0.707, 1.000]
     categories        13             0.300   0.570 [0.567, 0.736]   0.555 [0.541, 0.722]
     scenarios         84             0.500   0.698 [0.331, 0.810]   0.689 [0.331, 0.802]
    ──────────────────────────────────────────────────────────────────────────────────────

    Changes of categories in share of mentions, the largest first
    ───────────────────────────────────────────────────────────────────────────────────────────
     #   Name                         Mentions   there   Share    there         Change, points
    ───────────────────────────────────────────────────────────────────────────────────────────
     1   Medical services                    7       5   70.0%   100.0%   -30.0 [-55.6, -16.7]
     4   TCM management services             1       0   10.0%     0.0%     +10.0 [0.0, +25.0]
     6   Health management services          1       0   10.0%     0.0%     +10.0 [0.0, +33.3]
     9   Medical robots                      1       0   10.0%     0.0%     +10.0 [0.0, +22.2]
    ───────────────────────────────────────────────────────────────────────────────────────────

    Changes of scenarios in share of mentions, the largest first
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
      #   Name                                           Mentions   there   Share   there         Change, points
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
      8   Outpatient triage                                     1       2   10.0%   40.0%     -30.0 [-50.0, 0.0]
      1   Medical imaging: AI-assisted diagnosis                1       1   10.0%   20.0%     -10.0 [-80.0, 0.0]
     10   Pre-consultation history taking                       1       1   10.0%   20.0%     -10.0 [-25.0, 0.0]
     15   Medical record generation                             1       0   10.0%    0.0%     +10.0 [0.0, +25.1]
     22   TCM clinical diagnosis and treatment support          1       0   10.0%    0.0%     +10.0 [0.0, +25.0]
     39   Health management                                     1       0   10.0%    0.0%     +10.0 [0.0, +33.3]
     65   Medical consultation robot                            1       0   10.0%    0.0%     +10.0 [0.0, +22.2]
      3   Disease-specific clinical decision support            3       1   30.0%   20.0%   +10.0 [-16.7, +25.0]
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

    Change is this survey minus the other. Brackets are 95% intervals from 200 bootstrap samples of products (seed 1);
    they leave out coding errors.
    "#);
}

#[test]
fn a_published_survey_is_the_default_and_only_its_figures_are_compared() {
    assert_snapshot!(Workspace::new().run("survey may.jsonl --compare --resamples 200"), @r#"
    exit status 0
    may.jsonl beside a published survey:
    "2025 Medical Large Model Research Report: Empowering Practices of Nearly 300 Medical Large Models in In-Hospital and Out-of-Hospital Scenarios", VBInsight (动脉智库), with the Chengdu High-Tech Zone Digital Intelligence Medical Innovation Alliance, 2025-05-08

    Scope
    ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
                  This survey                                  The other
    ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     population   products in may.jsonl                        medical large models made public in China, as the house collected them; the list is not given with the figures   differs
     window       2023 to 2025, 1 without a year               2023 to 1 May 2025                                                                                               differs
     products     6                                            288                                                                                                              differs
     mentions     10                                           814                                                                                                              differs
     coder        coded input; the coder is not recorded       the house's analysts; no coding rules are given with the figures                                                 differs
     unit         mention: one product used for one scenario   mention: one model said to serve one sub-scenario                                                                differs
     taxonomy     nhc-2024@a3f9c5403143                        nhc-2024@a3f9c5403143                                                                                            same
    ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    Figures
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     Published figure                                                                                                             Published            This survey   Note
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     Medical large models made public to 1 May 2025                                                                                     288                      6
     Models released in 2023                                                                                                             61                      1   1
     Models released in 2024                                                                                                             94                      2   1
     Models released in 2025, to 1 May                                                                                                  133                      1   1
     Mentions of scenarios                                                                                                              814                     10
     Categories that the mentions fall into                                                                                              12                      4
     Sub-scenarios that the mentions fall into                                                                                           56                      8   2
     Mentions of medical services                                                                                                       430                      7
     Share of medical services in all mentions                                                                                   nearly 53%   70.0% [44.3%, 90.9%]
     Share of the application scenarios that lie inside the guideline                                                         more than 90%                      -   3
     Scenarios of the guideline's 84 whose text is said to name large models                                                             19                     20   4
     Mentions of non-imaging medical information technology                                            over 300 of 663 mentions, nearly 46%                      -   5
     Models of the imaging type                                                                                                          56                      0   6
     Models of the traditional Chinese medicine type released in 2023                                                                    13                      0
     Models of the traditional Chinese medicine type released in 2024                                                                     9                      0
     Models of the traditional Chinese medicine type released in 2025, to 1 May                                                           8                      1
     Of the top 100 hospitals, those that had deployed large models by 30 April 2025                                                     98                      -   7
     Of the top 100 hospitals, those that had developed vertical models                                                                  38                      -   7
     Vertical models developed by those 38 hospitals, more than half of them together with companies                                     55                      -   8
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    1  products of this survey without a year: 1
    2  The report's sub-scenarios are not the guideline's scenarios one by one: a small part of them (less than 10%) lies outside it
    3  Its unit is the application scenario, not the product; this program counts no scenarios outside the guideline, so that it has no figure to set beside it
    4  A count over the document, not over products; beside it stands the number that the taxonomy in use marks
    5  This sentence counts 663 mentions in all and does not agree with the 814 of the same report, which gives no reason. Both totals are recorded; comparisons use 814
    6  The report has four types: text, imaging, biological (drug R&D), traditional Chinese medicine; multimodal is none of them
    7  Its unit is the hospital, not the product
    8  The hospitals are not listed with the figures, so that products of hospitals in a table cannot be matched to them

    Sub-scenarios that the report calls the most mentioned, all of medical services
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     As named there                                         #   Name                                         Mentions   Rank
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
     disease-specific clinical decision support             3   Disease-specific clinical decision support          3   1/84
     pre-consultation triage (read as history taking)      10   Pre-consultation history taking                     1   2/84
     pre-consultation triage (read as outpatient triage)    8   Outpatient triage                                   1   2/84
     assisted medical record generation                    15   Medical record generation                           1   2/84
     AI-assisted imaging diagnosis                          1   Medical imaging: AI-assisted diagnosis              1   2/84
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    Categories that the report calls rarely mentioned
    ────────────────────────────────────────────────────────────────────────────────────────
     As named there               #   Name                                  Mentions   Rank
    ────────────────────────────────────────────────────────────────────────────────────────
     public health                7   Public health services                       0   5/13
     elderly care and childcare   8   Elderly care and childcare services          0   5/13
     medical robots               9   Medical robots                               1   2/13
    ────────────────────────────────────────────────────────────────────────────────────────

    The survey does not publish the mentions of every category or scenario, so that rank correlations and distances cannot be computed.
    VBInsight 2025-05-08, 2025 Medical Large Model Research Report: Empowering Practices of Nearly 300 Medical Large Models in In-Hospital and Out-of-Hospital Scenarios, https://www.vcbeathealth.com/article/32480
    VCBeat 2025-05-15, Top 100 Hospitals in China Are Developing Specialized AI Large Models: From Deployment to Vertical Innovation, https://www.vcbeathealth.com/article/32436
    "#);
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
    assert_snapshot!(transcript.join("\n"), @r#"
    $ survey may.jsonl --compare nowhere
    exit status 1
    error: there is no survey or file `nowhere` to compare with; published surveys are: vbinsight-2025; files are the JSON of `survey --format json`, or coded records (JSONL)

    $ survey may.jsonl --compare notes.json
    exit status 1
    error: `notes.json` is not a result that can be compared: missing field `taxonomy` at column 2; expected the JSON of `survey --format json`, or coded records (JSONL)

    $ survey may.jsonl --compare empty.jsonl
    exit status 1
    error: `empty.jsonl` is not a result that can be compared: EOF while parsing a value at column 0; expected the JSON of `survey --format json`, or coded records (JSONL)

    $ survey may.jsonl --format xlsx
    exit status 1
    error: a workbook is not written to standard output; name a file with --output

    $ survey may.jsonl --report may.jsonl
    exit status 1
    error: `may.jsonl` is an input and would be overwritten; choose another file

    $ survey may.jsonl -o out.html --report out.html
    exit status 1
    error: `out.html` is named for two results; choose another file for one of them

    $ survey may.jsonl --resamples 10
    exit status 2
    error: the following required arguments were not provided:
      --compare [<NAME|FILE>]

    Usage: medscenario survey --compare [<NAME|FILE>] --resamples <RESAMPLES> <INPUTS>...

    For more information, try '--help'.

    $ survey may.jsonl --chart-format png
    exit status 2
    error: the following required arguments were not provided:
      --charts <DIRECTORY>

    Usage: medscenario survey --charts <DIRECTORY> --chart-format <CHART_FORMAT> <INPUTS>...

    For more information, try '--help'.
    "#);
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
