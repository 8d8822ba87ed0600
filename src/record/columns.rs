//! Which column holds the id, the text and the name: by flag, or by the headers that such tables usually carry.

use std::sync::Arc;

/// Headers that usually hold the text, the best first. Compared in lower case, with `_` for spaces and hyphens.
const TEXT: [&str; 24] = [
    "text",
    "description",
    "description_zh",
    "product_description",
    "desc",
    "描述",
    "产品描述",
    "产品简介",
    "简介",
    "产品介绍",
    "介绍",
    "功能描述",
    "功能介绍",
    "内容",
    "正文",
    "文本",
    "摘要",
    "说明",
    "description_en",
    "summary",
    "abstract",
    "introduction",
    "intro",
    "content",
];
const ID: [&str; 11] =
    ["id", "record_id", "product_id", "model_id", "identifier", "编号", "产品编号", "序号", "标识", "no", "no."];
const NAME: [&str; 14] = [
    "name",
    "name_zh",
    "product",
    "product_name",
    "model",
    "model_name",
    "title",
    "名称",
    "产品名称",
    "模型名称",
    "产品",
    "模型",
    "大模型",
    "name_en",
];

/// Columns that the user named.
#[derive(Debug, Clone, Default)]
pub struct ColumnChoice {
    /// `--id-column`.
    pub id: Option<String>,
    /// `--text-column`.
    pub text: Option<String>,
    /// `--name-column`.
    pub name: Option<String>,
}

/// The columns in use for one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMap {
    /// Column of the id; records are numbered where there is none.
    pub id: Option<String>,
    /// Column of the text.
    pub text: String,
    /// Column of the name.
    pub name: Option<String>,
}

impl ColumnMap {
    /// Chooses columns among `headers`.
    ///
    /// # Errors
    /// The role and the column wanted (empty where none was named), when it is not there.
    pub fn choose(headers: &[Arc<str>], choice: &ColumnChoice) -> Result<ColumnMap, (&'static str, String)> {
        let named = |role: &'static str, wanted: &Option<String>, usual: &[&str]| match wanted {
            Some(wanted) => match headers.iter().find(|header| ***header == **wanted) {
                Some(header) => Ok(Some(header.to_string())),
                None => Err((role, wanted.clone())),
            },
            None => Ok(usual
                .iter()
                .find_map(|usual| headers.iter().find(|header| normalise(header) == *usual))
                .map(|header| header.to_string())),
        };
        let text = named("text", &choice.text, &TEXT)?.ok_or(("text", String::new()))?;
        let id = named("id", &choice.id, &ID)?.filter(|id| *id != text);
        let name = named("name", &choice.name, &NAME)?.filter(|name| *name != text && Some(name) != id.as_ref());
        Ok(ColumnMap { id, text, name })
    }
}

fn normalise(header: &str) -> String {
    header.trim().to_lowercase().replace([' ', '-'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(headers: &[&str], choice: &ColumnChoice) -> Result<ColumnMap, (&'static str, String)> {
        ColumnMap::choose(&headers.iter().map(|&header| Arc::from(header)).collect::<Vec<_>>(), choice)
    }

    #[test]
    fn usual_headers_are_found_in_both_languages() {
        let map = choose(&["编号", "产品名称", "厂商", "产品简介"], &ColumnChoice::default()).expect("found");
        assert_eq!((map.id.as_deref(), &*map.text, map.name.as_deref()), (Some("编号"), "产品简介", Some("产品名称")));
        let map = choose(&["Product ID", "Product-Name", "Description"], &ColumnChoice::default()).expect("found");
        assert_eq!(
            (map.id.as_deref(), &*map.text, map.name.as_deref()),
            (Some("Product ID"), "Description", Some("Product-Name"))
        );
    }

    #[test]
    fn a_named_column_must_exist_and_wins() {
        let choice = ColumnChoice { text: Some("b".to_owned()), ..ColumnChoice::default() };
        assert_eq!(choose(&["text", "b"], &choice).expect("found").text, "b");
        assert_eq!(choose(&["text"], &choice), Err(("text", "b".to_owned())));
        assert_eq!(choose(&["x"], &ColumnChoice::default()), Err(("text", String::new())));
    }
}
