//! What tests of the program share: a directory of inputs, and runs of the binary as text to compare with.

// Every test binary compiles this module and uses a part of it.
#![allow(dead_code)]

use std::fmt::Write;
use std::path::PathBuf;

use assert_cmd::cargo::cargo_bin_cmd;
use insta::Settings;
use insta::internals::SettingsBindDropGuard;
use tempfile::TempDir;

/// Most records that a transcript names one by one.
const NAMED: usize = 12;

/// A temporary directory in which the program runs. Snapshots are filtered for as long as it lives.
pub struct Workspace {
    directory: TempDir,
    _filters: SettingsBindDropGuard,
}

impl Workspace {
    /// An empty directory.
    pub fn new() -> Workspace {
        let mut settings = Settings::clone_current();
        settings.add_filter(r"\(os error \d+\)", "(os error [N])");
        settings.add_filter(r"(note: \d+ records?): .*", "$1: [counts]");
        settings.add_filter(r"\b[0-9a-f]{64}\b", "[SHA-256]");
        settings.add_filter(r"\b[0-9a-f]{12}\b", "[digest]");
        let directory = tempfile::tempdir().expect("the machine has a temporary directory");
        Workspace { directory, _filters: settings.bind_to_scope() }
    }

    /// Path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, with the directories above it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Workspace {
        let path = self.path(name);
        let parent = path.parent().expect("a file has a directory");
        std::fs::create_dir_all(parent).expect("the directory can be made");
        std::fs::write(&path, content).expect("the file can be written");
        self
    }

    /// Runs the program with arguments that contain no spaces.
    pub fn run(&self, arguments: &str) -> String {
        self.run_with(&arguments.split_whitespace().collect::<Vec<_>>(), b"")
    }

    /// Runs the program once per line of `commands`.
    pub fn run_all(&self, commands: &[&str]) -> String {
        commands.iter().map(|command| self.run(command)).collect::<Vec<_>>().join("\n")
    }

    /// Runs the program with these arguments and this standard input. The transcript has the command line, the exit
    /// status, standard error, the records that came out, and the error report where the arguments ask for one.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut command = cargo_bin_cmd!("medscenario");
        command.current_dir(self.directory.path()).args(arguments).write_stdin(input);
        // Whoever runs the tests may have set these.
        for variable in ["COLUMNS", "MEDSCENARIO_LANG", "MEDSCENARIO_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_CACHE"]
        {
            command.env_remove(variable);
        }
        // Nothing here may reach the network.
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", "hub");
        let output = command.output().expect("the program starts");
        let mut text = format!("$ medscenario {}\n", quoted(arguments));
        let status = output.status.code().expect("the program ends by itself");
        writeln!(text, "exit status {status}, {}", records(&output.stdout)).expect("memory");
        text += &String::from_utf8_lossy(&output.stderr);
        if let Some(at) = arguments.iter().position(|argument| *argument == "--errors") {
            let report = std::fs::read_to_string(self.path(arguments[at + 1])).unwrap_or("no report\n".to_owned());
            write!(text, "--- {} ---\n{report}", arguments[at + 1]).expect("memory");
        }
        text.replace(&self.directory.path().display().to_string(), "[directory]")
    }
}

fn quoted(arguments: &[&str]) -> String {
    let quote = |argument: &&str| {
        let plain = !argument.is_empty() && !argument.contains([' ', '\'', '*', '?', '[', ';', '"']);
        if plain { (*argument).to_owned() } else { format!("'{argument}'") }
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Which records came out, and which of them were cut. What was predicted is the model's business.
fn records(stdout: &[u8]) -> String {
    let text = std::str::from_utf8(stdout).expect("the program writes UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    let id = |line: &&str| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        let cut = if record["truncated"] == true { " (cut)" } else { "" };
        Some(format!("{}{cut}", record["id"].as_str()?))
    };
    let ids: Option<Vec<String>> = lines.iter().map(id).collect();
    match (lines.len(), ids) {
        (0, _) => "no output".to_owned(),
        (1, Some(ids)) => format!("1 line out: {}", ids[0]),
        (count, Some(ids)) if count <= NAMED => format!("{count} lines out: {}", ids.join(", ")),
        (count, _) => format!("{count} lines out"),
    }
}
