//! What commands do with rows that were turned away: report them in a file, or name the first few.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use medscenario::journal::open_at;
use medscenario::record::Rejection;

/// Rejections that are named on standard error where there is no report.
const NAMED: u64 = 10;

/// Counts rejections and reports them.
pub struct Rejections {
    report: Option<(PathBuf, csv::Writer<File>)>,
    quiet: bool,
    /// Rows turned away so far.
    pub count: u64,
}

impl Rejections {
    /// Starts a report, or continues one behind its first `bytes` bytes.
    pub fn open(path: Option<&Path>, quiet: bool, resumed: Option<(u64, u64)>) -> Result<Rejections> {
        let (bytes, count) = resumed.unwrap_or_default();
        let Some(path) = path else { return Ok(Rejections { report: None, quiet, count }) };
        let context = || format!("Failed to write the error report `{}`", path.display());
        let file = match resumed {
            Some(_) => open_at(path, bytes),
            None => File::create(path),
        };
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file.with_context(context)?);
        if bytes == 0 {
            writer.write_record(["file", "row", "column", "code", "reason"]).with_context(context)?;
        }
        Ok(Rejections { report: Some((path.to_owned(), writer)), quiet, count })
    }

    /// Reports one row.
    pub fn add(&mut self, rejection: &Rejection) -> Result<()> {
        self.count += 1;
        match &mut self.report {
            Some((path, writer)) => writer
                .serialize(rejection.row())
                .with_context(|| format!("Failed to write the error report `{}`", path.display())),
            None => {
                if !self.quiet && self.count <= NAMED {
                    eprintln!("warning: {rejection}");
                }
                Ok(())
            }
        }
    }

    /// Bytes of the report so far, all written.
    pub fn flush(&mut self) -> Result<u64> {
        let Some((path, writer)) = &mut self.report else { return Ok(0) };
        let context = || format!("Failed to write the error report `{}`", path.display());
        writer.flush().with_context(context)?;
        writer.get_ref().try_clone().and_then(|mut file| file.stream_position()).with_context(context)
    }

    /// Ends the report and sums up.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        if self.count > 0 && !self.quiet {
            let place = match &self.report {
                Some((path, _)) => format!("see `{}`", path.display()),
                None => "use --errors FILE for a report".to_owned(),
            };
            let rows = if self.count == 1 { "1 row was".to_owned() } else { format!("{} rows were", self.count) };
            eprintln!("warning: {rows} turned away; {place}");
        }
        Ok(self.count)
    }
}
