//! The journal of a classification: predictions as they are made, and a state from which an interrupted run continues.
//!
//! The journal is a JSON Lines file beside the output. The state says how much of it is valid and how many rows of the
//! input that covers; it is replaced as a whole, so that it is never half-written. Whatever stands behind the valid part
//! is cut off when a run continues, and the result is the same bytes as without the interruption.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::labels::Status;
use crate::output::OutputError;
use crate::prediction::Prediction;

/// What a run has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows read, good and bad.
    pub rows: u64,
    /// Records classified.
    pub records: u64,
    /// Rows turned away.
    pub rejected: u64,
    /// Records by status.
    pub coded: u64,
    /// Records with a use that no scenario covers.
    pub outside: u64,
    /// Records without a stated use.
    pub unspecified: u64,
    /// Mentions.
    pub mentions: u64,
    /// Records whose text was cut.
    pub truncated: u64,
}

impl Counts {
    /// Counts one prediction.
    pub fn add(&mut self, prediction: &Prediction) {
        self.records += 1;
        match prediction.status {
            Status::Coded => self.coded += 1,
            Status::Outside => self.outside += 1,
            Status::Unspecified => self.unspecified += 1,
        }
        self.mentions += prediction.scenarios.len() as u64;
        self.truncated += u64::from(prediction.truncated);
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Digest of inputs, model, taxonomy and flags that decide the result.
    pub fingerprint: String,
    /// Valid bytes of the journal.
    pub journal_bytes: u64,
    /// Valid bytes of the error report.
    pub errors_bytes: u64,
    /// What was counted.
    pub counts: Counts,
    /// Other columns of the records, in order of appearance.
    pub columns: Vec<String>,
}

/// Why a run cannot be continued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// There is nothing to continue.
    #[error("There is no interrupted run at `{}`; leave --resume out to start one", path.display())]
    NoRun {
        /// The journal.
        path: PathBuf,
    },
    /// The state is of another run.
    #[error("The interrupted run at `{}` had other inputs, another model or other flags; repeat its command line, or leave --resume out to start over", path.display())]
    OtherRun {
        /// The journal.
        path: PathBuf,
    },
    /// The state does not parse.
    #[error("The state `{}` is damaged; leave --resume out to start over", path.display())]
    BrokenState {
        /// The state's file.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("Failed to use the journal `{}`", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl Journal {
    /// Path of the journal of an output file.
    pub fn path_for(output: &Path) -> PathBuf {
        with_suffix(output, ".partial")
    }

    fn state_path(path: &Path) -> PathBuf {
        with_suffix(path, ".state")
    }

    /// Starts an empty journal.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: PathBuf) -> Result<Journal, JournalError> {
        let access = |source| JournalError::Access { path: path.clone(), source };
        match std::fs::remove_file(Journal::state_path(&path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(access(error)),
            _ => {}
        }
        let file = File::create(&path).map_err(access)?;
        Ok(Journal { path, writer: BufWriter::new(file) })
    }

    /// Opens the journal of an interrupted run and cuts off what its state does not cover.
    ///
    /// # Errors
    /// There is no such run, or it was another one.
    pub fn resume(path: PathBuf, fingerprint: &str) -> Result<(Journal, State), JournalError> {
        let access = |source| JournalError::Access { path: path.clone(), source };
        let text = match std::fs::read_to_string(Journal::state_path(&path)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(JournalError::NoRun { path }),
            Err(error) => return Err(access(error)),
        };
        let state: State =
            serde_json::from_str(&text).map_err(|_| JournalError::BrokenState { path: Journal::state_path(&path) })?;
        if state.fingerprint != fingerprint {
            return Err(JournalError::OtherRun { path });
        }
        let file = open_at(&path, state.journal_bytes).map_err(access)?;
        Ok((Journal { path, writer: BufWriter::new(file) }, state))
    }

    /// Appends a prediction.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, prediction: &Prediction) -> Result<(), JournalError> {
        write_line(&mut self.writer, prediction)
            .map_err(|source| JournalError::Access { path: self.path.clone(), source })
    }

    /// Makes everything appended so far part of the state.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn commit(&mut self, state: &mut State) -> Result<(), JournalError> {
        let access = |source| JournalError::Access { path: self.path.clone(), source };
        self.writer.flush().map_err(access)?;
        state.journal_bytes = self.writer.get_mut().stream_position().map_err(access)?;
        let path = Journal::state_path(&self.path);
        let fresh = with_suffix(&path, ".new");
        let text = serde_json::to_vec(state).map_err(|error| access(error.into()))?;
        std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path)).map_err(access)
    }

    /// Reads the journal back, from its beginning.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn predictions(&self) -> Result<impl Iterator<Item = Result<Prediction, OutputError>> + use<>, JournalError> {
        let file = File::open(&self.path).map_err(|source| JournalError::Access { path: self.path.clone(), source })?;
        Ok(BufReader::new(file).lines().map(|line| Ok(serde_json::from_str(&line?)?)))
    }

    /// Makes the journal itself the output.
    ///
    /// # Errors
    /// A file cannot be moved.
    pub fn into_output(self, output: &Path) -> Result<(), JournalError> {
        let access = |source| JournalError::Access { path: self.path.clone(), source };
        std::fs::rename(&self.path, output).map_err(access)?;
        self.remove()
    }

    /// Removes journal and state.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(self) -> Result<(), JournalError> {
        for path in [Journal::state_path(&self.path), self.path] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(JournalError::Access { path, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// One prediction as a line.
///
/// # Errors
/// The destination fails.
pub fn write_line(destination: &mut impl Write, prediction: &Prediction) -> std::io::Result<()> {
    serde_json::to_writer(&mut *destination, prediction)?;
    destination.write_all(b"\n")
}

/// Opens a file for appending behind its first `bytes` bytes, dropping the rest.
///
/// # Errors
/// The file is missing or cannot be cut.
pub fn open_at(path: &Path, bytes: u64) -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() < bytes {
        return Err(std::io::Error::other(format!("it has fewer than the {bytes} bytes that the run had written")));
    }
    file.set_len(bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// A path with something added to its file name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
