//! A registry of products: one CSV row each, with a source for every fact.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Placed, Problem};

/// Longest description, in characters of the Chinese text.
const LONGEST: usize = 400;

/// One product. Columns are those of the registry's data set card; other columns are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Product {
    /// Stable identifier.
    pub id: String,
    /// Chinese name.
    pub name_zh: String,
    /// English name.
    pub name_en: String,
    /// Developers in Chinese.
    pub developer_zh: String,
    /// Developers in English.
    pub developer_en: String,
    /// Kind of developer.
    pub developer_type: String,
    /// `YYYY-MM`, `YYYY`, or empty.
    pub released: String,
    /// Kind of model.
    pub model_type: String,
    /// How far it has come.
    pub status: String,
    /// Chinese description.
    pub description_zh: String,
    /// English description, or empty.
    pub description_en: String,
    /// Address of the source.
    pub source_url: String,
    /// `YYYY-MM-DD` or a shorter form, or empty.
    pub source_date: String,
}

const DEVELOPER_TYPES: [&str; 6] = ["company", "hospital", "university", "government", "joint", "unknown"];
const MODEL_TYPES: [&str; 5] = ["text", "imaging", "biological", "tcm", "multimodal"];
const STATUSES: [&str; 5] = ["announced", "released", "deployed", "open-source", "unknown"];

/// Reads and checks a registry; products that can be read are returned with all problems found.
///
/// # Errors
/// The file cannot be read, or has not the columns of a registry.
pub fn read(path: &Path) -> Result<(Vec<Placed<Product>>, Vec<Problem>), csv::Error> {
    let mut reader = csv::Reader::from_path(path)?;
    let (mut products, mut problems) = (Vec::new(), Vec::new());
    let headers = reader.headers()?.clone();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        let product: Product = record.deserialize(Some(&headers))?;
        let place = |problem| Problem { file: path.to_owned(), line, problem };
        problems.extend(faults(&product).into_iter().map(place));
        products.push(Placed { file: path.to_owned(), line, item: product });
    }
    problems.extend(repeated(&products));
    Ok((products, problems))
}

/// Whether a CSV file has the columns of a registry.
pub fn is_registry(path: &Path) -> bool {
    let headers = csv::Reader::from_path(path).and_then(|mut reader| reader.headers().cloned());
    headers.is_ok_and(|headers| {
        ["source_url", "developer_type", "description_zh"]
            .iter()
            .all(|name| headers.iter().any(|header| header == *name))
    })
}

fn faults(product: &Product) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |good: bool, column: &str, value: &str, expected: &str| {
        if !good {
            faults.push(format!("`{column}` is `{value}`; expected {expected}"));
        }
    };
    for (column, value, allowed) in [
        ("developer_type", &product.developer_type, DEVELOPER_TYPES.as_slice()),
        ("model_type", &product.model_type, &MODEL_TYPES),
        ("status", &product.status, &STATUSES),
    ] {
        expect(allowed.contains(&value.as_str()), column, value, &format!("one of {}", allowed.join(", ")));
    }
    for (column, value) in [
        ("id", &product.id),
        ("name_zh", &product.name_zh),
        ("name_en", &product.name_en),
        ("developer_zh", &product.developer_zh),
    ] {
        expect(!value.trim().is_empty(), column, value, "a value");
    }
    let length = product.description_zh.chars().count();
    expect(
        (8..=LONGEST).contains(&length),
        "description_zh",
        &format!("{length} characters"),
        &format!("8 to {LONGEST}"),
    );
    expect(
        product.source_url.starts_with("https://") || product.source_url.starts_with("http://"),
        "source_url",
        &product.source_url,
        "the address of the source",
    );
    expect(
        product.released.is_empty() || is_date(&product.released, 2),
        "released",
        &product.released,
        "YYYY-MM, YYYY or nothing",
    );
    expect(
        product.source_date.is_empty() || is_date(&product.source_date, 3),
        "source_date",
        &product.source_date,
        "YYYY-MM-DD, a shorter form or nothing",
    );
    faults
}

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, with at most `parts` parts, from 2000 on.
fn is_date(text: &str, parts: usize) -> bool {
    let found: Vec<&str> = text.split('-').collect();
    let number = |index: usize, length: usize, low: u32, high: u32| {
        let part = found[index];
        part.len() == length && part.parse().is_ok_and(|number: u32| (low..=high).contains(&number))
    };
    let limits = [(4, 2000, 2099), (2, 1, 12), (2, 1, 31)];
    found.len() <= parts
        && (0..found.len()).all(|index| number(index, limits[index].0, limits[index].1, limits[index].2))
}

fn repeated(products: &[Placed<Product>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    type Pick = fn(&Product) -> String;
    let name = |product: &Product| product.name_zh.to_lowercase() + "\t" + &product.developer_zh;
    for (what, pick) in [("id", (|product: &Product| product.id.clone()) as Pick), ("name and developer", name as Pick)]
    {
        let mut seen: HashMap<String, &Placed<Product>> = HashMap::new();
        for product in products {
            if let Some(first) = seen.insert(pick(&product.item), product) {
                let problem = format!("{what} of `{}` stand in line {} already", product.item.id, first.line);
                problems.push(Problem { file: PathBuf::from(&product.file), line: product.line, problem });
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_from_other_text() {
        assert!(is_date("2024", 2) && is_date("2024-05", 2) && is_date("2024-05-31", 3));
        assert!(!is_date("2024-05-31", 2) && !is_date("2024-13", 2) && !is_date("soon", 2) && !is_date("24-05", 2));
    }

    #[test]
    fn faults_and_repetitions_are_named_with_their_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("products.csv");
        let header = "id,name_zh,name_en,developer_zh,developer_en,developer_type,released,model_type,status,description_zh,description_en,source_url,source_date";
        let good = "a,名,N,厂,D,company,2024-05,text,released,用于门诊分诊的模型,,https://x,";
        let bad = "a,名,N,厂,D,firm,May,text,released,短,,x,";
        std::fs::write(&path, format!("{header}\n{good}\n{bad}\n")).expect("written");
        assert!(is_registry(&path));
        let (products, problems) = read(&path).expect("readable");
        assert_eq!(products.len(), 2);
        let text: Vec<String> = problems.iter().map(|problem| problem.problem.clone()).collect();
        assert_eq!(problems.len(), 6, "{text:#?}");
        assert!(problems.iter().all(|problem| problem.line == 3));
        assert!(text[0].starts_with("`developer_type` is `firm`"), "{text:#?}");
    }
}
