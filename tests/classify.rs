//! Promises of `classify` and `survey`: equal tables give equal results, runs continue where they stopped, and the bytes
//! do not depend on threads or batches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use tempfile::TempDir;

fn program() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("medscenario"))
}

fn run(arguments: &[&str], directory: &Path) -> std::process::Output {
    let output = program().args(arguments).current_dir(directory).output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Rows of id, name, text and two other columns.
fn table() -> Vec<[String; 5]> {
    let texts = [
        "面向门诊患者的导诊大模型，按症状推荐科室，并在就诊前采集病史。",
        "Drafts discharge summaries for ward doctors; trained on 2,000,000 notes.",
        "基于某开源底座的 7B 模型，参数与评测已公布，\"未来\"将拓展随访。",
        "A chatbot that answers the public's questions on symptoms,\nby voice or text.",
    ];
    (0..40)
        .map(|index| {
            let text =
                format!("{}{}", texts[index % 4], if index < 20 { String::new() } else { format!(" 第{index}版") });
            [format!("p{index}"), format!("产品{index}"), text, format!("202{}", 3 + index % 3), "公司".to_owned()]
        })
        .collect()
}

const HEADER: [&str; 5] = ["编号", "产品名称", "产品简介", "year", "类型"];

fn csv_text(delimiter: u8) -> String {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    writer.write_record(HEADER).expect("memory");
    table().iter().for_each(|row| writer.write_record(row).expect("memory"));
    String::from_utf8(writer.into_inner().expect("memory")).expect("UTF-8")
}

fn write_all_formats(directory: &Path) -> Vec<PathBuf> {
    let text = csv_text(b',');
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let gb18030 = encoding_rs::GB18030.encode(&text).0.into_owned();
    let jsonl: String = table()
        .iter()
        .map(|row| {
            let object: serde_json::Map<String, serde_json::Value> =
                HEADER.iter().zip(row).map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
            serde_json::to_string(&object).expect("JSON") + "\n"
        })
        .collect();
    for (name, bytes) in [
        ("plain.csv", text.clone().into_bytes()),
        ("bom.csv", format!("\u{feff}{text}").into_bytes()),
        ("gb18030.csv", gb18030),
        ("utf16.csv", utf16),
        ("tabs.tsv", csv_text(b'\t').into_bytes()),
        ("lines.jsonl", jsonl.into_bytes()),
    ] {
        fs::write(directory.join(name), bytes).expect("written");
    }
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    for (column, name) in HEADER.iter().enumerate() {
        sheet.write_string(0, column as u16, *name).expect("cell");
    }
    for (index, row) in table().iter().enumerate() {
        for (column, value) in row.iter().enumerate() {
            // Excel stores a year as a number.
            match (column, value.parse::<f64>()) {
                (3, Ok(number)) => sheet.write_number(index as u32 + 1, column as u16, number).expect("cell"),
                _ => sheet.write_string(index as u32 + 1, column as u16, value).expect("cell"),
            };
        }
    }
    workbook.save(directory.join("book.xlsx")).expect("saved");
    let columns: Vec<(&str, ArrayRef)> = HEADER
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let values: Vec<String> = table().iter().map(|row| row[column].clone()).collect();
            (*name, Arc::new(StringArray::from(values)) as ArrayRef)
        })
        .collect();
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let file = fs::File::create(directory.join("table.parquet")).expect("created");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let names =
        ["plain.csv", "bom.csv", "gb18030.csv", "utf16.csv", "tabs.tsv", "lines.jsonl", "book.xlsx", "table.parquet"];
    names.iter().map(|name| directory.join(name)).collect()
}

#[test]
fn the_same_table_gives_the_same_bytes_in_every_format_and_encoding() {
    let directory = TempDir::new().expect("a directory");
    let mut expected = None;
    for path in write_all_formats(directory.path()) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let found = run(&["classify", "-q", &name], directory.path()).stdout;
        assert_eq!(String::from_utf8_lossy(&found).lines().count(), 40, "{name}");
        assert_eq!(expected.get_or_insert_with(|| found.clone()), &found, "{name}");
    }
    // Standard input is recognised by its content.
    for name in ["plain.csv", "gb18030.csv", "lines.jsonl", "book.xlsx", "table.parquet"] {
        let input = fs::File::open(directory.path().join(name)).expect("opened");
        let output = program().args(["classify", "-q", "-"]).stdin(input).output().expect("runs");
        assert_eq!(expected.as_ref(), Some(&output.stdout), "{name} on standard input");
    }
}

#[test]
fn bytes_do_not_depend_on_threads_or_batches() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("t.csv"), csv_text(b',')).expect("written");
    let expected = run(&["classify", "-q", "t.csv"], directory.path()).stdout;
    for flags in [["--jobs", "1"], ["--jobs", "3"], ["--batch-tokens", "64"], ["--batch-tokens", "100000"]] {
        let found = run(&[&["classify", "-q", "t.csv"], &flags[..]].concat(), directory.path()).stdout;
        assert_eq!(found, expected, "{flags:?}");
    }
}

/// A table whose first piece is done quickly, because texts repeat, and whose second takes long enough to be interrupted.
fn long_table(directory: &Path) {
    let mut text = String::from("id,text,group\n");
    for index in 0..3000 {
        let version = if index < 2100 { index % 20 } else { index };
        if index % 500 == 499 {
            text += &format!("{index},,empty\n");
        } else {
            text += &format!(
                "{index},面向第{version}家医院的模型：导诊{version}、预问诊与病历书写；样本 {},g{}\n",
                version * 7,
                index % 3
            );
        }
    }
    fs::write(directory.join("long.csv"), text).expect("written");
}

fn classify_long(directory: &Path, output: &str, extra: &[&str]) -> Command {
    let mut command = program();
    command
        .args(["classify", "-q", "long.csv", "-o", output, "--errors", "errors.csv"])
        .args(extra)
        .current_dir(directory);
    command
}

#[test]
fn a_killed_run_continues_and_ends_with_the_same_bytes() {
    for (format, extra) in [("jsonl", vec![]), ("csv", vec!["--layout", "wide"]), ("parquet", vec![]), ("xlsx", vec![])]
    {
        let directory = TempDir::new().expect("a directory");
        long_table(directory.path());
        let whole = format!("whole.{format}");
        let status = classify_long(directory.path(), &whole, &extra).status().expect("runs");
        assert_eq!(status.code(), Some(3), "bad rows are told by the exit status");
        let expected = fs::read(directory.path().join(&whole)).expect("written");
        let expected_errors = fs::read(directory.path().join("errors.csv")).expect("written");
        let manifest = fs::read_to_string(directory.path().join(format!("{whole}.manifest.json"))).expect("written");

        let parts = format!("parts.{format}");
        let mut child = classify_long(directory.path(), &parts, &extra).stderr(Stdio::null()).spawn().expect("starts");
        let state = directory.path().join(format!("{parts}.partial.state"));
        let started = std::time::Instant::now();
        while !state.exists()
            && child.try_wait().expect("waits").is_none()
            && started.elapsed() < Duration::from_secs(120)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(state.exists(), "the run was killed after its first state");
        assert!(!directory.path().join(&parts).exists(), "and before its end");

        let mut resume = extra.clone();
        resume.push("--resume");
        let status = classify_long(directory.path(), &parts, &resume).status().expect("runs");
        assert_eq!(status.code(), Some(3));
        assert_eq!(fs::read(directory.path().join(&parts)).expect("written"), expected, "{format}");
        assert_eq!(fs::read(directory.path().join("errors.csv")).expect("written"), expected_errors, "{format}");
        let resumed = fs::read_to_string(directory.path().join(format!("{parts}.manifest.json"))).expect("written");
        assert_eq!(resumed, manifest);
        assert!(!state.exists(), "nothing is left behind");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_state_to_continue_from() {
    let directory = TempDir::new().expect("a directory");
    long_table(directory.path());
    let mut child = classify_long(directory.path(), "out.jsonl", &[]).stderr(Stdio::piped()).spawn().expect("starts");
    let state = directory.path().join("out.jsonl.partial.state");
    let started = std::time::Instant::now();
    while !state.exists() && started.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(interrupted.success());
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(130));
    assert!(state.exists() && !directory.path().join("out.jsonl").exists());
    let status = classify_long(directory.path(), "out.jsonl", &["--resume"]).status().expect("runs");
    assert_eq!(status.code(), Some(3));
    let lines = fs::read_to_string(directory.path().join("out.jsonl")).expect("written").lines().count();
    assert_eq!(lines, 3000 - 6);
}

#[test]
fn surveys_of_raw_tables_and_of_their_classification_agree() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("t.csv"), csv_text(b',')).expect("written");
    run(&["classify", "-q", "t.csv", "-o", "t.jsonl", "--probabilities"], directory.path());
    run(&["classify", "-q", "t.csv", "-o", "labels.jsonl", "--labels-only", "--probabilities"], directory.path());
    run(&["classify", "-q", "t.csv", "-o", "counts.jsonl"], directory.path());
    let survey = |input: &str| -> serde_json::Value {
        let output =
            run(&["survey", "-q", input, "--format", "json", "--by", "year", "--by", "类型"], directory.path());
        let mut value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        value["model"] = serde_json::Value::Null;
        value
    };
    let raw = survey("t.csv");
    assert_eq!(raw["totals"]["n_records"], 40);
    assert_eq!(raw["breakdowns"][0]["groups"].as_array().map(Vec::len), Some(3));
    assert_eq!(survey("t.jsonl"), raw);
    assert_eq!(survey("labels.jsonl"), raw);
    assert!(raw["totals"]["expected_mentions"].as_f64() > Some(0.0));
    let counts = survey("counts.jsonl");
    assert_eq!(counts["totals"]["expected_mentions"], serde_json::Value::Null);
    assert_eq!(counts["totals"]["n_mentions"], raw["totals"]["n_mentions"]);
}

#[test]
fn a_file_of_predictions_is_evaluated_like_the_model_that_wrote_it() {
    let directory = TempDir::new().expect("a directory");
    let line = |row: &[String; 5]| {
        let label = serde_json::json!({ "id": row[0], "text": row[2], "scenarios": [8] });
        format!("{label}\n")
    };
    let labels: String = table().iter().map(line).collect();
    fs::write(directory.path().join("gold.jsonl"), labels).expect("written");
    run(&["classify", "-q", "gold.jsonl", "-o", "coded.jsonl", "--probabilities"], directory.path());
    run(&["classify", "-q", "gold.jsonl", "-o", "plain.jsonl"], directory.path());
    let evaluate = |arguments: &[&str]| -> serde_json::Value {
        let output = run(&[&["eval", "-q", "gold.jsonl", "--format", "json"], arguments].concat(), directory.path());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let model = evaluate(&[]);
    let file = evaluate(&["--predictions", "coded.jsonl"]);
    for figure in ["micro", "recall_at_3", "status_accuracy", "acceptance"] {
        assert_eq!(file[figure], model[figure], "{figure}");
    }
    // Probabilities are written with four decimals.
    let error = |evaluation: &serde_json::Value| evaluation["calibration_error"]["value"].as_f64().expect("a number");
    assert!((error(&file) - error(&model)).abs() < 1e-3);
    assert_eq!(evaluate(&["--predictions", "plain.jsonl"])["recall_at_3"]["value"], serde_json::Value::Null);
}

#[test]
fn several_files_and_patterns_are_read_in_order() {
    let directory = TempDir::new().expect("a directory");
    for name in ["b.csv", "a.csv"] {
        fs::write(directory.path().join(name), "text\n用于导诊的模型\n用于随访的模型\n").expect("written");
    }
    let output = run(&["classify", "-q", "*.csv", "--labels-only"], directory.path());
    let ids: Vec<String> = String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(ids, ["a.csv:1", "a.csv:2", "b.csv:1", "b.csv:2"]);
}

#[test]
fn evidence_lies_in_the_text_where_its_offsets_say() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("t.csv"), csv_text(b',')).expect("written");
    let output = run(&["classify", "-q", "t.csv"], directory.path());
    let rows = table();
    for (line, row) in String::from_utf8(output.stdout).expect("UTF-8").lines().zip(&rows) {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["id"].as_str(), Some(row[0].as_str()));
        let characters: Vec<char> = row[2].chars().collect();
        for scenario in value["scenarios"].as_array().expect("a list") {
            let evidence = scenario["evidence"].as_array().expect("a list");
            assert!(!evidence.is_empty(), "every assignment carries its evidence");
            for span in evidence {
                let at = |key: &str| span[key].as_u64().expect("a number") as usize;
                let quoted: String = characters[at("start")..at("end")].iter().collect();
                assert_eq!(Some(quoted.as_str()), span["text"].as_str());
            }
        }
    }
}
