//! Command-line flags. What they mean is decided in `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use medscenario::audit::design::Design;
use medscenario::encoder::{DeviceChoice, Precision};
use medscenario::record::{ColumnChoice, InputFormat, InputOptions, LongText};
use medscenario::report::charts::ChartFormat;
use medscenario::survey::Level;
use medscenario::taxonomy::Lang;

/// Exit statuses, the same for all commands.
pub const EXIT_CODES: &str = "\
Exit status:
  0    everything went well
  1    the command failed; the message says why
  2    the command line is wrong
  3    finished, but some rows were turned away (see --errors)
  130  interrupted; a classify run can be continued with --resume";

#[derive(Debug, Parser)]
#[command(name = "medscenario", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// Print no progress and no notes on standard error; errors are still printed
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Assign scenarios to every record of one or more tables
    #[command(after_help = "\
Examples:
  medscenario classify products.csv -o coded.jsonl
  medscenario classify 'tables/*.xlsx' --text-column 产品简介 -o coded.csv --layout wide --errors bad.csv
  medscenario classify million.parquet -o coded.parquet --resume
  medscenario classify products.csv -o coded.jsonl --cache vectors.redb
  cat products.jsonl | medscenario classify - > coded.jsonl")]
    Classify(ClassifyArgs),
    /// Assign scenarios to one description, and show why
    #[command(after_help = "\
Examples:
  medscenario lookup \"面向门诊的大模型，提供导诊、预问诊和病历生成\"
  medscenario lookup --json \"Drafts discharge summaries for ward doctors\"
  medscenario lookup --taxonomy my-taxonomy.toml --zero-shot --top 5 \"Reminds patients to take their tablets\"
  pbpaste | medscenario lookup -")]
    Lookup(LookupArgs),
    /// Count how often each scenario, category and section is mentioned
    #[command(after_help = "\
Examples:
  medscenario survey data/products/*.csv
  medscenario survey coded.jsonl --by year --by developer_type --lang zh
  medscenario survey products.xlsx -o frequencies.xlsx
  medscenario survey data/products/*.csv --compare
  medscenario survey may.jsonl --compare january.jsonl --format csv
  medscenario survey data/products/*.csv --report survey.html --charts charts --chart-format svg,png
  medscenario survey coded.jsonl --audit sheet.csv --cluster developer
  medscenario survey coded.jsonl --taxonomy data/taxonomy/use-mode \
    --crosswalk data/taxonomy/crosswalk/nhc-2024--use-mode.sssom.tsv
  medscenario survey products.csv --taxonomy my-taxonomy.toml --zero-shot")]
    Survey(Box<SurveyArgs>),
    /// Draw records for people to code, compare, and plan how many
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Compare predictions with a labelled set
    #[command(after_help = "\
Examples:
  medscenario eval eval/gold/test-zh.jsonl
  medscenario eval eval/gold/test-zh.jsonl --model my-bundle --cache vectors.redb
  medscenario eval gold.jsonl --predictions coded.jsonl --format json")]
    Eval(EvalArgs),
    /// Train a bundle from labelled texts on top of an encoder
    #[command(after_help = "\
Examples:
  medscenario train data/training/*.jsonl --encoder my-encoder --output my-bundle
  medscenario train labels.jsonl --encoder hf://sentence-transformers/all-MiniLM-L6-v2 --freeze-encoder --output bundle")]
    Train(TrainArgs),
    /// Check data sets, count what they cover, and compare coders
    #[command(subcommand)]
    Data(DataCommand),
    /// Show and export the taxonomy
    #[command(subcommand)]
    Taxonomy(TaxonomyCommand),
    /// Inspect, fetch, verify and use models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  medscenario completions bash > /etc/bash_completion.d/medscenario")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What to read and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// Tables: CSV, TSV, JSONL, XLSX, Parquet or text; files, quoted patterns, or `-` for standard input
    #[arg(required = true)]
    pub inputs: Vec<String>,
    /// Format of all inputs [default: by extension; by content on standard input]
    #[arg(long, value_enum)]
    pub input_format: Option<InputFormat>,
    /// Encoding of text formats, such as gb18030 [default: detected]
    #[arg(long)]
    pub encoding: Option<String>,
    /// Separator of delimited text [default: detected]
    #[arg(long)]
    pub delimiter: Option<char>,
    /// Sheet of workbooks [default: the first]
    #[arg(long)]
    pub sheet: Option<String>,
    /// Column of the ids [default: detected; records are numbered where there is none]
    #[arg(long)]
    pub id_column: Option<String>,
    /// Column of the descriptions [default: detected]
    #[arg(long)]
    pub text_column: Option<String>,
    /// Column of the product names [default: detected]
    #[arg(long)]
    pub name_column: Option<String>,
    /// Longest description in characters
    #[arg(long, default_value_t = 100_000, value_parser = positive)]
    pub max_chars: usize,
    /// What to do with a longer one
    #[arg(long, value_enum, default_value_t = LongText::Reject)]
    pub long_text: LongText,
    /// Write rows that were turned away to FILE, as CSV with file, row, column, code and reason
    #[arg(long, value_name = "FILE")]
    pub errors: Option<PathBuf>,
}

impl InputArgs {
    /// The part that concerns opening tables.
    pub fn options(&self) -> InputOptions {
        InputOptions {
            format: self.input_format,
            encoding: self.encoding.clone(),
            delimiter: self.delimiter,
            sheet: self.sheet.clone(),
            columns: ColumnChoice {
                id: self.id_column.clone(),
                text: self.text_column.clone(),
                name: self.name_column.clone(),
            },
        }
    }
}

/// Which model to use and where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Bundle directory [default: the built-in bundle]
    #[arg(long, value_name = "DIRECTORY")]
    pub model: Option<PathBuf>,
    /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
    #[arg(long, value_name = "PATH")]
    pub taxonomy: Option<PathBuf>,
    /// Use no trained head: assign the scenario whose names, definition and terms lie nearest. For taxonomies without labels
    #[arg(long)]
    pub zero_shot: bool,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// How exactly to compute; `medscenario model precision` prints how many decisions a faster mode changes
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// Threads [default: one per core]
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Most tokens in a batch [default: what suits the device]
    #[arg(long, value_parser = positive)]
    pub batch_tokens: Option<usize>,
}

/// Where vectors of texts are kept from run to run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct CacheArgs {
    /// Keep what the encoder computes in FILE, and take from it what it has: later runs encode only new texts
    #[arg(long, value_name = "FILE", env = "MEDSCENARIO_CACHE")]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ClassifyArgs {
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Output file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Output format [default: by extension; jsonl on standard output]
    #[arg(long, value_enum)]
    pub format: Option<OutputFormat>,
    /// Tables: one row per assigned scenario, or one row per record
    #[arg(long, value_enum, default_value_t = Layout::Long)]
    pub layout: Layout,
    /// Reduce `scenarios` to numbers, without probabilities and evidence (JSONL)
    #[arg(long)]
    pub labels_only: bool,
    /// Write every scenario's probability, which `survey` sums up to expected counts (JSONL)
    #[arg(long)]
    pub probabilities: bool,
    /// Write each description into its line as `text`, for audits of and reports on coded records (JSONL)
    #[arg(long)]
    pub keep_text: bool,
    /// Continue an interrupted run with the same inputs and flags
    #[arg(long, requires = "output")]
    pub resume: bool,
}

/// Format of classified records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// JSON Lines
    Jsonl,
    /// Comma-separated values
    Csv,
    /// Tab-separated values
    Tsv,
    /// Excel workbook
    Xlsx,
    /// Parquet
    Parquet,
}

/// Shape of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// One row per assigned scenario; one row without a scenario for records that have none
    Long,
    /// One row per record, with one column of 0 and 1 per scenario
    Wide,
}

#[derive(Debug, Args)]
pub struct LookupArgs {
    /// The description, or `-` for standard input
    pub text: String,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Show the N most probable scenarios too, assigned or not
    #[arg(long, value_name = "N", value_parser = positive)]
    pub top: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Language of names
    #[arg(long, value_enum, default_value_t = Lang::En, env = "MEDSCENARIO_LANG")]
    pub lang: Lang,
}

#[derive(Debug, Args)]
pub struct SurveyArgs {
    #[command(flatten)]
    pub input: InputArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Count in --taxonomy what is coded in another taxonomy, through this crosswalk (SSSOM TSV): a record has the entries
    /// that its scenarios imply
    #[arg(long, value_name = "FILE", requires = "taxonomy", conflicts_with_all = ["zero_shot", "audit"])]
    pub crosswalk: Option<PathBuf>,
    /// Taxonomy that the crosswalk starts from, directory or file [default: the built-in taxonomy nhc-2024]
    #[arg(long, value_name = "PATH", requires = "crosswalk")]
    pub source_taxonomy: Option<PathBuf>,
    /// Break counts down by a column, or by `year` of the release date; may be repeated
    #[arg(long, value_name = "COLUMN")]
    pub by: Vec<String>,
    /// Filled audit sheet, from which counts are corrected; may be given twice, once for each of two coders
    #[arg(long, value_name = "SHEET")]
    pub audit: Vec<PathBuf>,
    /// Column whose values are clusters of records that resemble each other, such as developer
    #[arg(long, value_name = "COLUMN", requires = "audit")]
    pub cluster: Option<String>,
    /// Output format [default: by extension of the output; table otherwise]
    #[arg(long, value_enum)]
    pub format: Option<ReportFormat>,
    /// Output file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Language of names in tables and charts, and the first one of the report
    #[arg(long, value_enum, default_value_t = Lang::En, env = "MEDSCENARIO_LANG")]
    pub lang: Lang,
    /// Show scenarios without mentions too, and all changes
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub compare: CompareArgs,
    #[command(flatten)]
    pub present: PresentArgs,
}

/// What to set beside a survey.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub struct CompareArgs {
    /// Compare with a published survey by its name, with a result (JSON of `survey`), or with coded records (JSONL)
    #[arg(long, value_name = "NAME|FILE", num_args = 0..=1, default_missing_value = medscenario::published::DEFAULT)]
    pub compare: Option<String>,
    /// Bootstrap resamples of products behind the intervals
    #[arg(long, default_value_t = medscenario::comparison::RESAMPLES, value_parser = positive, requires = "compare")]
    pub resamples: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 1, requires = "compare")]
    pub seed: u64,
}

/// Reports and charts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Report")]
pub struct PresentArgs {
    /// Write one self-contained HTML page, with the products and the evidence behind every number
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the charts into DIRECTORY
    #[arg(long, value_name = "DIRECTORY")]
    pub charts: Option<PathBuf>,
    /// Formats of the charts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "svg", requires = "charts")]
    pub chart_format: Vec<ChartFormat>,
}

/// Format of frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Tables for reading
    Table,
    /// Comma-separated values, one row per count
    Csv,
    /// JSON
    Json,
    /// Excel workbook, one sheet per table; needs --output
    Xlsx,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Labelled texts (JSONL)
    #[arg(required = true)]
    pub labels: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Evaluate this output of `classify` (JSONL) instead of running the model; with its --probabilities also ranking and calibration
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = EvalFormat::Markdown)]
    pub format: EvalFormat,
    /// Output file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Bootstrap resamples of documents
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    pub resamples: usize,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Use only texts in this language
    #[arg(long, value_enum)]
    pub only: Option<Lang>,
}

/// Format of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EvalFormat {
    /// Markdown
    Markdown,
    /// JSON
    Json,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Labelled texts (JSONL)
    #[arg(required = true)]
    pub labels: Vec<PathBuf>,
    /// Encoder: directory in Hugging Face layout, or hf://OWNER/NAME[@REVISION]
    #[arg(long)]
    pub encoder: String,
    /// Directory of the new bundle
    #[arg(long, short, value_name = "DIRECTORY")]
    pub output: PathBuf,
    /// Labelled texts for calibration and thresholds [default: a tenth of the texts, held out]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub calibrate: Vec<PathBuf>,
    /// Labelled texts, best real ones, whose labels vote on texts that read like them; with --folds those of --calibrate vote too
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub neighbours: Vec<PathBuf>,
    /// Write predictions on the calibration texts to FILE (JSONL), each by a model that did not learn from the text
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Name of the bundle
    #[arg(long, default_value = "custom")]
    pub name: String,
    /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
    #[arg(long, value_name = "PATH")]
    pub taxonomy: Option<PathBuf>,
    /// Train the head alone
    #[arg(long)]
    pub freeze_encoder: bool,
    /// Passes over the texts
    #[arg(long, default_value_t = 8, value_parser = positive)]
    pub epochs: usize,
    /// Texts in a step
    #[arg(long, default_value_t = 32, value_parser = positive)]
    pub batch_texts: usize,
    /// Highest learning rate of the encoder
    #[arg(long, default_value_t = 3e-4, value_parser = rate)]
    pub encoder_rate: f64,
    /// Highest learning rate of the head
    #[arg(long, default_value_t = 1e-3, value_parser = rate)]
    pub head_rate: f64,
    /// Units of the head
    #[arg(long, default_value_t = 256, value_parser = positive)]
    pub units: usize,
    /// Rows of the head's layers over words, of clauses and of whole texts; 0 for none
    #[arg(long, default_value_t = 8192)]
    pub buckets: usize,
    /// Share of the linear model of the text's words in the scores
    #[arg(long, default_value_t = 0.3, value_parser = share)]
    pub word_share: f64,
    /// Share of the head's inputs and units that are left out in each step
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    pub dropout: f64,
    /// Average N heads trained from different seeds; needs --freeze-encoder
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive, requires = "freeze_encoder")]
    pub members: usize,
    /// Learn from the calibration texts too (without --calibrate: from all texts), and calibrate on scores of N models that
    /// each did not see a part of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub folds: usize,
    /// Seed of every random choice
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Threads [default: one per core]
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Check registries of products (CSV) and labelled texts (JSONL); problems are named with file and line
    #[command(after_help = "\
Examples:
  medscenario data check data/ --held-out eval/gold
  medscenario data check my-products.csv my-labels.jsonl")]
    Check {
        /// Files, or directories that hold them
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Labelled texts that no other text may nearly repeat; descriptions of registries always count as held out
        #[arg(long, value_name = "PATH", num_args = 1..)]
        held_out: Vec<PathBuf>,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
    },
    /// Count texts, languages, statuses and mentions of every scenario
    #[command(after_help = "Example:\n  medscenario data stats data/training --json")]
    Stats {
        /// Files, or directories that hold them
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Compare two coders: F1, Krippendorff's alpha with MASI distance, by category
    #[command(after_help = "Example:\n  medscenario data agreement eval/gold/coders/a.jsonl eval/gold/coders/b.jsonl")]
    Agreement {
        /// Codes of the first coder
        first: PathBuf,
        /// Codes of the second coder
        second: PathBuf,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Draw a sample with known probabilities, and write a sheet for people to fill in
    #[command(after_help = "\
Examples:
  medscenario classify products.csv -o coded.jsonl --probabilities --keep-text
  medscenario audit sample coded.jsonl -n 100 -o sheet.xlsx
  medscenario audit sample coded.jsonl -n 100 --design uncertainty --seed 7 --cluster developer -o sheet.csv

Coders fill in `status` (coded, outside or unspecified) and, where it is coded, `scenarios`: numbers separated by `;`.
Two coders each fill in a copy.")]
    Sample {
        /// Output of `classify` (JSONL) with --keep-text
        coded: PathBuf,
        /// Records to draw
        #[arg(short = 'n', long, value_parser = positive)]
        number: usize,
        /// How to draw them
        #[arg(long, value_enum, default_value_t = Design::Random)]
        design: Design,
        /// Seed of the draw
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The sheet: .csv, .tsv or .xlsx
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// Column to note in the sheet, such as developer
        #[arg(long, value_name = "COLUMN")]
        cluster: Option<String>,
        /// Show coders what the classifier said, which makes them agree with it more than they would
        #[arg(long)]
        show_predictions: bool,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
    },
    /// Compare the classifier with a filled sheet, and two coders with each other
    #[command(after_help = "\
Examples:
  medscenario audit score coded.jsonl sheet.csv
  medscenario audit score coded.jsonl first.xlsx second.xlsx --json")]
    Score {
        /// The coded file that the sample was drawn from
        coded: PathBuf,
        /// The filled sheet, or those of two coders
        #[arg(required = true, num_args = 1..=2)]
        sheets: Vec<PathBuf>,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say how many records to audit for intervals of a given width
    #[command(after_help = "\
Examples:
  medscenario audit plan --width 0.05
  medscenario audit plan coded.jsonl --width 0.05 --level category
  medscenario audit plan coded.jsonl --pilot sheet.csv --width 0.02 --level scenario --id 65")]
    Plan {
        /// Output of `classify` (JSONL) [default: none; then the largest need]
        coded: Option<PathBuf>,
        /// Width of the 95% interval of a share of records; 0.05 is 2.5 percentage points to each side
        #[arg(long, value_parser = rate)]
        width: f64,
        /// Level of the taxonomy
        #[arg(long, value_enum, default_value_t = Level::Category)]
        level: Level,
        /// Only the entry with this number
        #[arg(long)]
        id: Option<u32>,
        /// Filled sheet of a first, smaller audit
        #[arg(long, value_name = "SHEET", requires = "coded")]
        pilot: Option<PathBuf>,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum TaxonomyCommand {
    /// Print the tree
    #[command(after_help = "Example:\n  medscenario taxonomy list --lang zh")]
    List {
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
        /// Language of names
        #[arg(long, value_enum, default_value_t = Lang::En, env = "MEDSCENARIO_LANG")]
        lang: Lang,
    },
    /// Print one scenario in both languages, with its neighbours
    #[command(after_help = "Examples:\n  medscenario taxonomy show 10\n  medscenario taxonomy show 智能随访")]
    Show {
        /// Number, name or part of a name or term
        scenario: String,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
    },
    /// Say what differs between two taxonomies, or two versions of one
    #[command(after_help = "\
Examples:
  medscenario taxonomy diff nhc-2024 my-taxonomy
  medscenario taxonomy diff old/taxonomy.toml new/taxonomy.toml --json")]
    Diff {
        /// Taxonomy directory or file, or nhc-2024 for the built-in one
        old: PathBuf,
        /// The one to compare with it
        new: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the whole taxonomy for other programs
    #[command(after_help = "Example:\n  medscenario taxonomy export --format skos > nhc-2024.ttl")]
    Export {
        /// Format
        #[arg(long, value_enum, default_value_t = TaxonomyFormat::Json)]
        format: TaxonomyFormat,
        /// Taxonomy directory or file [default: the built-in taxonomy nhc-2024]
        #[arg(long, value_name = "PATH")]
        taxonomy: Option<PathBuf>,
    },
}

/// Format of an exported taxonomy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TaxonomyFormat {
    /// SKOS in Turtle
    Skos,
    /// JSON
    Json,
    /// One row per scenario
    Csv,
}

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Describe a bundle or an encoder
    #[command(after_help = "Examples:\n  medscenario model info\n  medscenario model info my-bundle --json")]
    Info {
        /// Bundle or encoder directory [default: the built-in bundle]
        model: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Fetch an encoder from the Hugging Face hub into its cache and print the directory
    #[command(after_help = "\
Example:
  medscenario model fetch hf://sentence-transformers/all-MiniLM-L6-v2@main

HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are respected.")]
    Fetch {
        /// hf://OWNER/NAME[@REVISION]
        model: String,
    },
    /// Compare the files of a bundle with its manifest, and load it
    #[command(after_help = "Example:\n  medscenario model verify my-bundle")]
    Verify {
        /// Bundle directory [default: the built-in bundle]
        model: Option<PathBuf>,
    },
    /// Count the decisions that a faster mode changes, against 32-bit floats on the same texts
    #[command(after_help = "\
Examples:
  medscenario model precision eval/gold/*.jsonl --precision int8
  medscenario model precision products.csv --precision bf16 --device cuda --json")]
    Precision {
        #[command(flatten)]
        input: Box<InputArgs>,
        #[command(flatten)]
        model: Box<ModelArgs>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print one vector per record as JSONL
    #[command(after_help = "Example:\n  medscenario model embed texts.txt --encoder my-encoder")]
    Embed {
        #[command(flatten)]
        input: Box<InputArgs>,
        /// Encoder: directory in Hugging Face layout, or hf://OWNER/NAME[@REVISION] [default: the built-in bundle's]
        #[arg(long)]
        encoder: Option<String>,
        /// Cut texts at the window, as sentence-transformers does, instead of joining windows
        #[arg(long)]
        truncate: bool,
        /// Encode texts one by one instead of in batches
        #[arg(long)]
        alone: bool,
        /// Where to compute
        #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
        device: DeviceChoice,
        /// How exactly to compute; `medscenario model precision` prints how many decisions a faster mode changes
        #[arg(long, value_enum, default_value_t = Precision::F32)]
        precision: Precision,
    },
}

fn positive(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number, 1 or more".to_owned()),
    }
}

fn share(value: &str) -> Result<f64, String> {
    match value.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to below 1, such as 0.2".to_owned()),
    }
}

fn rate(value: &str) -> Result<f64, String> {
    match value.parse() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err("expected a number between 0 and 1, such as 3e-4".to_owned()),
    }
}
