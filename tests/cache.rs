//! Promises of `--cache`: nothing but time depends on it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use medscenario::cache::FeatureCache;
use tempfile::TempDir;

fn program(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("medscenario"));
    command.args(arguments).current_dir(directory).env_remove("MEDSCENARIO_CACHE");
    command
}

fn run(arguments: &[&str], directory: &Path) -> Output {
    let output = program(arguments, directory).output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a run that failed says.
fn failure(arguments: &[&str], directory: &Path) -> String {
    let output = program(arguments, directory).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn text(index: usize) -> String {
    format!(
        "面向门诊患者的导诊大模型第{index}版，按症状推荐科室。 It drafts discharge summaries, version {index}; and more."
    )
}

/// 30 records with 24 texts.
fn workspace() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let rows: String = (0..30).map(|index| format!("{index},\"{}\"\n", text(index % 24))).collect();
    fs::write(directory.path().join("t.csv"), format!("id,text\n{rows}")).expect("written");
    let labels: String = (0..30)
        .map(|index| {
            let (text, status) = (text(index % 24), "unspecified");
            serde_json::json!({"id": index.to_string(), "text": text, "status": status, "scenarios": []}).to_string()
                + "\n"
        })
        .collect();
    fs::write(directory.path().join("labels.jsonl"), labels).expect("written");
    directory
}

fn classify(extra: &[&str], directory: &Path) -> Output {
    run(&[&["classify", "t.csv", "--probabilities"], extra].concat(), directory)
}

/// How many texts came from the cache, and of how many.
fn usage(output: &Output) -> Option<(u32, u32)> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().find_map(|line| line.strip_suffix(" distinct texts came from the cache"))?;
    let (found, texts) = line.strip_prefix("note: ")?.split_once(" of ")?;
    Some((found.parse().ok()?, texts.parse().ok()?))
}

#[test]
fn runs_with_and_without_a_cache_give_the_same_bytes() {
    let directory = workspace();
    let directory = directory.path();
    let plain = classify(&[], directory);
    assert_eq!(usage(&plain), None);
    let first = classify(&["--cache", "c.redb"], directory);
    assert_eq!((usage(&first), &first.stdout), (Some((0, 24)), &plain.stdout));
    for jobs in ["1", "3"] {
        let again = classify(&["--cache", "c.redb", "--jobs", jobs], directory);
        assert_eq!((usage(&again), &again.stdout), (Some((24, 24)), &plain.stdout), "{jobs} jobs");
    }
    // New texts join those that are there.
    let half: String = (20..28).map(|index| format!("{}\n", text(index))).collect();
    fs::write(directory.join("half.txt"), half).expect("written");
    assert_eq!(usage(&run(&["classify", "half.txt", "--cache", "c.redb"], directory)), Some((4, 8)));
    assert_eq!(usage(&run(&["classify", "half.txt", "--cache", "c.redb"], directory)), Some((8, 8)));
    let quiet = classify(&["-q", "--cache", "c.redb"], directory);
    assert_eq!((&quiet.stdout, quiet.stderr.is_empty()), (&plain.stdout, true));
}

#[test]
fn survey_and_eval_take_what_classify_has_left() {
    let directory = workspace();
    let directory = directory.path();
    classify(&["--cache", "c.redb"], directory);
    for arguments in [
        vec!["survey", "t.csv", "--format", "json"],
        vec!["eval", "labels.jsonl", "--format", "json", "--resamples", "10"],
        vec!["classify", "t.csv", "--zero-shot"],
    ] {
        let plain = run(&arguments, directory);
        let output = program(&arguments, directory).env("MEDSCENARIO_CACHE", "c.redb").output().expect("runs");
        assert_eq!((usage(&output), &output.stdout), (Some((24, 24)), &plain.stdout), "{arguments:?}");
    }
}

/// A copy of the default bundle.
fn bundle(directory: &Path) {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    fs::create_dir_all(directory.join("bundle/1_Pooling")).expect("made");
    for file in [
        "1_Pooling/config.json",
        "config.json",
        "head.safetensors",
        "manifest.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
    ] {
        fs::copy(default.join(file), directory.join("bundle").join(file)).expect("copied");
    }
}

#[test]
fn another_threshold_finds_every_vector_and_another_encoder_none() {
    let directory = workspace();
    let directory = directory.path();
    bundle(directory);
    let before = classify(&["--cache", "c.redb"], directory).stdout;
    let path = directory.join("bundle/manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("read")).expect("the manifest is JSON");
    for threshold in manifest["calibration"]["thresholds"].as_array_mut().expect("a list") {
        *threshold = 0.999_999.into();
    }
    fs::write(&path, manifest.to_string()).expect("written");
    let plain = classify(&["--model", "bundle"], directory);
    let cached = classify(&["--model", "bundle", "--cache", "c.redb"], directory);
    assert_eq!((usage(&cached), &cached.stdout), (Some((24, 24)), &plain.stdout));
    assert_ne!(cached.stdout, before, "the threshold matters");
    // The manifest does not know of this change, and the cache does.
    let path = directory.join("bundle/tokenizer.json");
    fs::write(&path, fs::read_to_string(&path).expect("read") + "\n").expect("written");
    assert_eq!(usage(&classify(&["--model", "bundle", "--cache", "c.redb"], directory)), Some((0, 24)));
    // Both encoders' vectors are there now.
    assert_eq!(usage(&classify(&["--model", "bundle", "--cache", "c.redb"], directory)), Some((24, 24)));
    assert_eq!(usage(&classify(&["--cache", "c.redb"], directory)), Some((24, 24)));
}

#[test]
fn texts_cannot_be_read_from_the_file() {
    let directory = workspace();
    classify(&["--cache", "c.redb"], directory.path());
    let file = fs::read(directory.path().join("c.redb")).expect("written");
    for word in ["导诊", "discharge", "门诊"] {
        assert!(!file.windows(word.len()).any(|bytes| bytes == word.as_bytes()), "{word}");
    }
}

#[test]
fn damaged_values_are_computed_again() {
    let directory = workspace();
    let directory = directory.path();
    let first = classify(&["--cache", "c.redb"], directory);
    let path = directory.join("c.redb");
    let mut file = fs::read(&path).expect("written");
    // What reads as numbers of a usual size for as long as this is part of a vector.
    let usual = |number: &[u8; 4]| (1e-6..100.0).contains(&f32::from_le_bytes(*number).abs());
    let is_vector = |page: &[u8]| page.as_chunks().0.iter().all(usual);
    let pages: Vec<usize> = (0..file.len() / 512).filter(|page| is_vector(&file[page * 512..][..512])).collect();
    assert!(pages.len() > 20, "{} pages of vectors", pages.len());
    for page in &pages {
        file[page * 512 + 100] ^= 0x40;
    }
    fs::write(&path, file).expect("written");
    let again = classify(&["--cache", "c.redb"], directory);
    assert_eq!((usage(&again), &again.stdout), (Some((0, 24)), &first.stdout));
    assert_eq!(usage(&classify(&["--cache", "c.redb"], directory)), Some((24, 24)));
}

#[test]
fn a_file_that_is_no_usable_cache_is_named_before_anything_is_written() {
    let directory = workspace();
    let directory = directory.path();
    classify(&["--cache", "c.redb"], directory);
    let whole = fs::read(directory.join("c.redb")).expect("written");
    fs::write(directory.join("short.redb"), &whole[..whole.len() / 3]).expect("written");
    fs::write(directory.join("other.csv"), "id,text\n1,a table\n").expect("written");
    let foreign = redb::Database::create(directory.join("foreign.redb")).expect("created");
    let transaction = foreign.begin_write().expect("begun");
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("numbers")).expect("opened");
    transaction.commit().expect("committed");
    drop(foreign);
    for (file, message) in [
        ("short.redb", "error: The cache `short.redb` is damaged; delete it, and the next run starts a new one\n"),
        (
            "other.csv",
            "error: `other.csv` is no cache of this program; name another file, or one that is not there yet\n",
        ),
        (
            "foreign.redb",
            "error: `foreign.redb` is no cache of this program; name another file, or one that is not there yet\n",
        ),
        (
            "missing/c.redb",
            "error: Failed to use the cache `missing/c.redb`; file and directory must be writable, with room on the disk\n",
        ),
        (".", "error: Failed to use the cache `.`; file and directory must be writable, with room on the disk\n"),
        ("t.csv", "error: `t.csv` is an input and would be overwritten; choose another file\n"),
    ] {
        let before = fs::read(directory.join(file)).ok();
        let found = failure(&["classify", "t.csv", "-o", "out.jsonl", "--cache", file], directory);
        assert!(found.starts_with(message), "{file}: {found}");
        assert!(!directory.join("out.jsonl.partial").exists(), "{file}");
        // A file that is a database is opened to see whose it is, which leaves marks in its header.
        if !file.ends_with(".redb") {
            assert_eq!(fs::read(directory.join(file)).ok(), before, "{file} is as it was");
        }
    }
}

#[test]
fn a_run_goes_on_without_a_cache_that_another_one_uses() {
    let directory = workspace();
    let directory = directory.path();
    let plain = classify(&[], directory);
    let held = FeatureCache::open(&directory.join("c.redb"), "another encoder", "f32").expect("opened");
    let output = classify(&["--cache", "c.redb"], directory);
    assert_eq!((usage(&output), &output.stdout), (None, &plain.stdout));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let warning = "warning: the cache `c.redb` is in use by another run; this one goes on without it\n";
    assert!(stderr.contains(warning), "{stderr}");
    drop(held);
    assert_eq!(usage(&classify(&["--cache", "c.redb"], directory)), Some((0, 24)));
}

#[cfg(unix)]
#[test]
fn a_full_disk_costs_the_cache_and_no_result() {
    let directory = workspace();
    let directory = directory.path();
    let rows: String = (0..1200).map(|index| format!("{}\n", text(index))).collect();
    fs::write(directory.join("many.txt"), rows).expect("written");
    let plain = run(&["classify", "many.txt"], directory).stdout;
    // A limit on the size of files stands for the end of the disk; without the signal, writing beyond it fails.
    let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
    let binary = assert_cmd::cargo::cargo_bin!("medscenario");
    let limited = |blocks: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", blocks]).arg(binary).args(["classify", "many.txt", "--cache", "c.redb"]);
        command.current_dir(directory).stdin(Stdio::null()).output().expect("runs")
    };
    let output = limited("4096");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == plain, "the results are complete");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let warning = "warning: the results are complete, but the cache has failed: Failed to use the cache `c.redb`; file and directory must be writable, with room on the disk: ";
    assert!(stderr.contains(warning), "{stderr}");
    // What reached the disk is of use where there is room again.
    let output = run(&["classify", "many.txt", "--cache", "c.redb"], directory);
    assert!(output.stdout == plain && usage(&output).is_some());
}
