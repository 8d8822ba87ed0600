//! Crosswalks: which scenarios of one taxonomy imply an entry of another, read from SSSOM TSV.
//!
//! The format is that of Matentzoglu et al., *A Simple Standard for Sharing Ontological Mappings (SSSOM)*, Database 2022:
//! metadata as YAML in lines that begin with `#`, then a table separated by tabs. Of the metadata, `mapping_set_id` and
//! `curie_map` are used, and the sources and their versions are checked where they are given. Subject and object are
//! scenarios, under the identifiers that [`super::export::skos`] gives them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{Id, Taxonomy};

/// Beginning of the identifiers of all our taxonomies.
const ROOT: &str = "urn:medscenario:";
/// Beginning of the identifiers of SKOS, which SSSOM declares by itself.
const SKOS: &str = "http://www.w3.org/2004/02/skos/core#";
/// Local names of the predicates, and whether the subject implies the object.
const PREDICATES: [(&str, bool); 5] = [
    ("exactMatch", true),
    ("broadMatch", true),
    ("closeMatch", false),
    ("narrowMatch", false),
    ("relatedMatch", false),
];

/// Why a crosswalk cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrosswalkError {
    /// The file cannot be read.
    #[error("Failed to read crosswalk `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The table is not one.
    #[error("Failed to read the table of crosswalk `{}`; expected SSSOM TSV", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The cause, with the line.
        source: csv::Error,
    },
    /// The metadata is wrong, or belongs to other taxonomies.
    #[error("Crosswalk `{}` is not usable: {problem}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong, what was expected.
        problem: String,
    },
    /// A mapping is wrong.
    #[error("Crosswalk `{}` line {line}: `{column}` is `{value}`; {expected}", path.display())]
    Mapping {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What was expected.
        expected: String,
    },
}

/// A checked crosswalk between two taxonomies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crosswalk {
    /// Last part of its `mapping_set_id`.
    pub id: String,
    /// SHA-256 of the file.
    pub digest: String,
    implied: BTreeMap<Id, Vec<Id>>,
}

/// What a set of scenarios implies in another taxonomy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Implied {
    /// Implied entries, each with the scenarios that imply it, in the order in which they were given.
    pub entries: BTreeMap<Id, Vec<Id>>,
    /// Scenarios that imply none.
    pub without: Vec<Id>,
}

impl Crosswalk {
    /// Reads a crosswalk from `source` to `target`.
    ///
    /// # Errors
    /// Unreadable file, metadata for other taxonomies, or a mapping with an unknown predicate, prefix or scenario, or that
    /// occurs twice.
    pub fn read(path: &Path, source: &Taxonomy, target: &Taxonomy) -> Result<Crosswalk, CrosswalkError> {
        let read_error = |source| CrosswalkError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        Crosswalk::parse(path, text.trim_start_matches('\u{feff}'), source, target)
    }

    fn parse(path: &Path, text: &str, source: &Taxonomy, target: &Taxonomy) -> Result<Crosswalk, CrosswalkError> {
        let table_error = |source| CrosswalkError::Table { path: path.to_owned(), source };
        let wrong = |problem| CrosswalkError::Metadata { path: path.to_owned(), problem };
        let metadata = Metadata::parse(text);
        let id = metadata.check(source, target).map_err(wrong)?;
        let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').comment(Some(b'#')).from_reader(text.as_bytes());
        let header = reader.headers().map_err(table_error)?.clone();
        let position = |name: &str| header.iter().position(|column| column == name);
        let column = |name: &str| {
            position(name).ok_or_else(|| wrong(format!("it has no column `{name}`; expected tabs between columns")))
        };
        let (subject, predicate, object) = (column("subject_id")?, column("predicate_id")?, column("object_id")?);
        let modifier = position("predicate_modifier");
        let mut implied: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        let mut lines: HashMap<(Id, Id), u64> = HashMap::new();
        for row in reader.records() {
            let row = row.map_err(table_error)?;
            let line = row.position().map_or(0, |position| position.line());
            let bad = |column: &'static str, value: &str, expected: String| CrosswalkError::Mapping {
                path: path.to_owned(),
                line,
                column,
                value: value.to_owned(),
                expected,
            };
            let scenario = |name: &'static str, value: &str, taxonomy: &Taxonomy| {
                metadata.scenario(value, taxonomy).map_err(|expected| bad(name, value, expected))
            };
            let from = scenario("subject_id", &row[subject], source)?;
            let to = scenario("object_id", &row[object], target)?;
            let implies =
                metadata.implies(&row[predicate]).map_err(|expected| bad("predicate_id", &row[predicate], expected))?;
            // "Not" says that the mapping does not hold.
            let negated = match modifier.map_or("", |modifier| &row[modifier]) {
                "" => false,
                "Not" => true,
                other => return Err(bad("predicate_modifier", other, "expected `Not` or nothing".to_owned())),
            };
            if let Some(first) = lines.insert((from, to), line) {
                let expected = format!("line {first} maps `{}` to it already; keep one of the two", &row[subject]);
                return Err(bad("object_id", &row[object], expected));
            }
            if implies && !negated {
                implied.entry(from).or_default().push(to);
            }
        }
        Ok(Crosswalk { id, digest: crate::digest::of_bytes(text.as_bytes()), implied })
    }

    /// How outputs name the crosswalk: its id and the first digits of its digest.
    pub fn label(&self) -> String {
        format!("{}@{}", self.id, crate::digest::short(&self.digest))
    }

    /// What a set of scenarios implies. Only `exactMatch` and `broadMatch` imply their object.
    pub fn implied(&self, scenarios: impl IntoIterator<Item = Id>) -> Implied {
        let mut found = Implied::default();
        for scenario in scenarios {
            match self.implied.get(&scenario) {
                Some(entries) => {
                    entries.iter().for_each(|&entry| found.entries.entry(entry).or_default().push(scenario));
                }
                None => found.without.push(scenario),
            }
        }
        found
    }
}

/// The metadata above the table: values at the top level, and the prefixes of `curie_map`. Lists are passed over.
#[derive(Debug, Default)]
struct Metadata<'t> {
    values: HashMap<&'t str, &'t str>,
    prefixes: HashMap<&'t str, &'t str>,
}

impl<'t> Metadata<'t> {
    fn parse(text: &'t str) -> Metadata<'t> {
        let mut metadata = Metadata::default();
        let mut block = "";
        for line in text.lines().map_while(|line| line.strip_prefix('#')) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let (name, value) = (unquoted(key), unquoted(value));
            // Some writers put a space after every `#`, so that an entry of a block is told by two.
            if key.starts_with("  ") {
                if block == "curie_map" {
                    metadata.prefixes.insert(name, value);
                }
            } else {
                block = name;
                metadata.values.insert(name, value);
            }
        }
        metadata
    }

    /// The id of the mapping set, after a check that the file is about these taxonomies.
    fn check(&self, source: &Taxonomy, target: &Taxonomy) -> Result<String, String> {
        for (side, taxonomy) in [("subject", source), ("object", target)] {
            if let Some(&found) = self.values.get(format!("{side}_source").as_str())
                && self.expand(found)? != format!("{ROOT}{}", taxonomy.id)
            {
                return Err(format!(
                    "its `{side}_source` is `{found}`, and taxonomy `{}` is loaded for it; choose the taxonomies that it \
                     maps",
                    taxonomy.id
                ));
            }
            if let Some(&found) = self.values.get(format!("{side}_source_version").as_str())
                && found != taxonomy.version
            {
                return Err(format!(
                    "it was made for version `{found}` of taxonomy `{}`, and version `{}` is loaded; choose that version, \
                     or revise the crosswalk",
                    taxonomy.id, taxonomy.version
                ));
            }
        }
        let id = self.values.get("mapping_set_id").and_then(|id| id.rsplit([':', '/']).next());
        id.filter(|id| !id.is_empty()).map(str::to_owned).ok_or_else(|| {
            "it has no `mapping_set_id`; expected the metadata of SSSOM in lines that begin with `#`".to_owned()
        })
    }

    /// The identifier that a CURIE stands for.
    fn expand(&self, curie: &str) -> Result<String, String> {
        let (prefix, local) =
            curie.split_once(':').ok_or_else(|| "expected a prefix of `curie_map`, `:` and a name".to_owned())?;
        let base = self.prefixes.get(prefix).copied().or((prefix == "skos").then_some(SKOS));
        let base = base.ok_or_else(|| format!("prefix `{prefix}` is not in `curie_map`; declare it there"))?;
        Ok(format!("{base}{local}"))
    }

    fn scenario(&self, curie: &str, taxonomy: &Taxonomy) -> Result<Id, String> {
        let root = format!("{ROOT}{}:scenario:", taxonomy.id);
        let identifier = self.expand(curie)?;
        let number = identifier
            .strip_prefix(&root)
            .ok_or_else(|| format!("it stands for `{identifier}`, and a scenario of `{}` is `{root}N`", taxonomy.id))?;
        number.parse().ok().filter(|&id| taxonomy.position(id).is_some()).ok_or_else(|| {
            format!("expected a scenario of `{}`, as `medscenario taxonomy list` shows them", taxonomy.label())
        })
    }

    fn implies(&self, predicate: &str) -> Result<bool, String> {
        let identifier = self.expand(predicate)?;
        let found = PREDICATES.iter().find(|(name, _)| identifier.strip_prefix(SKOS) == Some(name));
        found.map(|(_, implies)| *implies).ok_or_else(|| {
            let names = PREDICATES.map(|(name, _)| format!("skos:{name}"));
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// A plain or quoted YAML scalar.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inside = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inside('"').or(inside('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/taxonomy").join(name)
    }

    fn taxonomy(name: &str) -> Taxonomy {
        Taxonomy::from_path(&data(name)).expect("shipped taxonomies are sound")
    }

    const HEAD: &str = "\
#mapping_set_id: urn:medscenario:crosswalk:small
#subject_source: m:nhc-2024
#object_source: m:use-mode
#object_source_version: \"1\"
#curie_map:
#  m: \"urn:medscenario:\"
#  a: 'urn:medscenario:nhc-2024:scenario:'
#  b: urn:medscenario:use-mode:scenario:
#creator_id:
#  - orcid:0000-0000-0000-0000
subject_id\tpredicate_id\tobject_id\tpredicate_modifier
";

    fn parse(text: &str) -> Result<Crosswalk, String> {
        let (source, target) = (Taxonomy::builtin(), taxonomy("use-mode"));
        Crosswalk::parse(Path::new("x.sssom.tsv"), text, &source, &target).map_err(|error| error.to_string())
    }

    #[test]
    fn exact_and_broad_matches_imply_and_others_do_not() {
        let rows = "a:1\tskos:exactMatch\tb:1\t\na:1\tskos:broadMatch\tb:2\t\na:2\tskos:broadMatch\tb:1\t\n\
                    a:3\tskos:narrowMatch\tb:1\t\na:4\tskos:relatedMatch\tb:1\t\na:5\tskos:closeMatch\tb:1\t\n\
                    a:6\tskos:broadMatch\tb:1\tNot\n";
        let crosswalk = parse(&format!("{HEAD}{rows}")).expect("sound");
        assert_eq!(crosswalk.id, "small");
        let found = crosswalk.implied(1..=7);
        assert_eq!(found.entries, BTreeMap::from([(1, vec![1, 2]), (2, vec![1])]));
        assert_eq!(found.without, [3, 4, 5, 6, 7]);
    }

    #[test]
    fn shipped_taxonomies_and_crosswalks_load_and_agree_on_names() {
        let folders = std::fs::read_dir(data("")).expect("there").map(|entry| entry.expect("readable").file_name());
        let names = folders.filter_map(|name| name.into_string().ok());
        let taxonomies: BTreeMap<String, Taxonomy> = names
            .filter(|name| data(name).join("taxonomy.toml").exists())
            .map(|name| (name.clone(), taxonomy(&name)))
            .collect();
        assert!(taxonomies.iter().all(|(name, taxonomy)| taxonomy.id == *name));
        let mut n_crosswalks = 0;
        for entry in std::fs::read_dir(data("crosswalk")).expect("there") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let Some((from, to)) = name.strip_suffix(".sssom.tsv").and_then(|name| name.split_once("--")) else {
                continue;
            };
            let (source, target) = (&taxonomies[from], &taxonomies[to]);
            let crosswalk = Crosswalk::read(&path, source, target).expect("shipped crosswalks are sound");
            assert_eq!(crosswalk.id, format!("{from}--{to}"));
            assert!(!crosswalk.implied(source.scenarios.iter().map(|scenario| scenario.id)).entries.is_empty());
            let mut reader = csv::ReaderBuilder::new()
                .delimiter(b'\t')
                .comment(Some(b'#'))
                .from_path(&path)
                .expect("it has been read");
            for row in reader.records() {
                let row = row.expect("it has been read");
                let name = |curie: &str, taxonomy: &Taxonomy| {
                    let id = curie.rsplit(':').next().and_then(|id| id.parse().ok()).expect("checked");
                    taxonomy.scenario(id).expect("checked").name.en.clone()
                };
                assert_eq!((&row[1], &row[4]), (name(&row[0], source).as_str(), name(&row[3], target).as_str()));
            }
            n_crosswalks += 1;
        }
        assert_eq!((taxonomies.len(), n_crosswalks), (4, 3));
    }

    #[test]
    fn wrong_crosswalks_name_line_value_and_expectation() {
        let with = |row: &str| parse(&format!("{HEAD}a:1\tskos:broadMatch\tb:1\t\n{row}\n")).expect_err("wrong");
        for (error, said) in [
            (
                with("a:85\tskos:broadMatch\tb:1\t"),
                "`x.sssom.tsv` line 13: `subject_id` is `a:85`; expected a scenario of",
            ),
            (with("a:2\tskos:broadMatch\tb:9\t"), "`object_id` is `b:9`; expected a scenario of `use-mode@"),
            (with("b:2\tskos:broadMatch\tb:1\t"), "it stands for `urn:medscenario:use-mode:scenario:2`"),
            (with("c:2\tskos:broadMatch\tb:1\t"), "prefix `c` is not in `curie_map`"),
            (with("2\tskos:broadMatch\tb:1\t"), "expected a prefix of `curie_map`"),
            (with("a:2\tskos:sameAs\tb:1\t"), "`predicate_id` is `skos:sameAs`; expected one of skos:exactMatch"),
            (with("a:1\tskos:relatedMatch\tb:1\t"), "line 12 maps `a:1` to it already"),
            (with("a:2\tskos:broadMatch\tb:1\tMaybe"), "`predicate_modifier` is `Maybe`; expected `Not` or nothing"),
            (with("a:2\tskos:broadMatch"), "expected SSSOM TSV"),
            (
                parse(&HEAD.replace("m:use-mode", "m:model-type")).expect_err("wrong"),
                "its `object_source` is `m:model-type`",
            ),
            (parse(&HEAD.replace("\"1\"", "\"2\"")).expect_err("wrong"), "made for version `2` of taxonomy `use-mode`"),
            (parse(&HEAD.replace("object_id", "object")).expect_err("wrong"), "it has no column `object_id`"),
            (parse(&HEAD.replace("#mapping_set_id", "#id")).expect_err("wrong"), "it has no `mapping_set_id`"),
        ] {
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_scenario_implies_something_or_is_without(set in proptest::collection::btree_set(1u32..=84, 0..12)) {
            let (source, target) = (Taxonomy::builtin(), taxonomy("vbinsight-domains-2023"));
            let path = data("crosswalk/nhc-2024--vbinsight-domains-2023.sssom.tsv");
            let crosswalk = Crosswalk::read(&path, &source, &target).expect("sound");
            let found = crosswalk.implied(set.iter().copied());
            let implying: BTreeSet<Id> = found.entries.values().flatten().copied().collect();
            let without: BTreeSet<Id> = found.without.iter().copied().collect();
            prop_assert!(implying.is_disjoint(&without));
            prop_assert_eq!(implying.union(&without).copied().collect::<BTreeSet<Id>>(), set);
            prop_assert!(found.entries.keys().all(|&id| target.position(id).is_some()));
        }
    }
}
