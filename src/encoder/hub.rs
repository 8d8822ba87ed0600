//! Checkpoints from the Hugging Face hub, or from any server with its URL layout.
//!
//! The variables that the Python client honours hold here too: `HF_ENDPOINT`, `HF_TOKEN` (or the token file),
//! `HF_HUB_CACHE`, `HF_HOME` and `HF_HUB_OFFLINE`.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

/// Files without which a checkpoint cannot be used.
const REQUIRED: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// Files that are fetched where they are there.
const OPTIONAL: [&str; 3] = ["modules.json", "sentence_bert_config.json", "1_Pooling/config.json"];

/// Name of a repository and revision: `owner/name` or `owner/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    /// `owner/name`.
    pub repo: String,
    /// Branch, tag or commit; `main` where none is given.
    pub revision: String,
}

impl HubModel {
    /// Reads `hf://owner/name` or `hf://owner/name@revision`; `None` for anything else.
    pub fn parse(argument: &str) -> Option<HubModel> {
        let name = argument.strip_prefix("hf://")?;
        let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
        let parts: Vec<&str> = repo.split('/').collect();
        let valid =
            parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && *part != "..") && !revision.is_empty();
        valid.then(|| HubModel { repo: repo.to_owned(), revision: revision.to_owned() })
    }
}

/// Where and how to fetch.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Address of the hub.
    pub endpoint: String,
    /// Access token.
    pub token: Option<String>,
    /// Cache directory, in the layout that the Python client shares.
    pub cache: PathBuf,
    /// Use the cache alone.
    pub offline: bool,
    /// Show progress bars.
    pub progress: bool,
}

impl HubOptions {
    /// Reads the variables of the environment.
    pub fn from_env(progress: bool) -> HubOptions {
        let variable = |name: &str| {
            std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let cache = match variable("HF_HUB_CACHE") {
            Some(path) => Cache::new(path.into()),
            None => Cache::from_env(),
        };
        let truthy = |value: String| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        HubOptions {
            endpoint: variable("HF_ENDPOINT")
                .map_or_else(|| "https://huggingface.co".to_owned(), |url| url.trim_end_matches('/').to_owned()),
            token: variable("HF_TOKEN").or_else(|| cache.token()),
            cache: cache.path().clone(),
            offline: variable("HF_HUB_OFFLINE").is_some_and(truthy),
            progress,
        }
    }
}

/// A checkpoint in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Directory with the files.
    pub directory: PathBuf,
    /// The commit that the revision stood for.
    pub commit: String,
}

/// Why a checkpoint cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Offline, and not in the cache.
    #[error("`{repo}` at revision `{revision}` is not in the cache `{}`, and HF_HUB_OFFLINE forbids fetching it", cache.display())]
    Offline {
        /// `owner/name`.
        repo: String,
        /// The revision asked for.
        revision: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The server does not have the file, or does not show it to this token.
    #[error(
        "`{repo}` at revision `{revision}` has no `{file}` at {endpoint} (status {status}); check the name and revision, and HF_TOKEN for a private repository"
    )]
    NotFound {
        /// `owner/name`.
        repo: String,
        /// The revision asked for.
        revision: String,
        /// The file.
        file: String,
        /// The server.
        endpoint: String,
        /// HTTP status.
        status: u16,
    },
    /// The transfer failed.
    #[error(
        "Failed to fetch `{file}` of `{repo}` from {endpoint}; check the network, HF_ENDPOINT, or use HF_HUB_OFFLINE=1 with a filled cache"
    )]
    Transfer {
        /// `owner/name`.
        repo: String,
        /// The file.
        file: String,
        /// The server.
        endpoint: String,
        /// The cause.
        source: Box<ApiError>,
    },
    /// What came does not have the hash that the server announced. The file has been removed from the cache.
    #[error(
        "`{file}` of `{repo}` is damaged: its SHA-256 is {found}, the server announced {expected}; it was removed from the cache, fetch it again"
    )]
    WrongHash {
        /// `owner/name`.
        repo: String,
        /// The file.
        file: String,
        /// As announced.
        expected: String,
        /// As received.
        found: String,
    },
    /// A cached file cannot be read or removed.
    #[error("Failed to use the cached file `{}`", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Fetches the files of a checkpoint into the cache, or finds them there, and checks every hash that the hub announces.
///
/// # Errors
/// No network, a missing file, a transfer that breaks off, or content with another size or hash than announced.
pub fn fetch(model: &HubModel, options: &HubOptions) -> Result<Fetched, HubError> {
    let cache = Cache::new(options.cache.clone());
    if options.offline {
        let found: Option<Vec<PathBuf>> =
            REQUIRED.iter().map(|file| cached(&cache, model, &model.revision, file)).collect();
        let Some(paths) = found else {
            let (repo, revision) = (model.repo.clone(), model.revision.clone());
            return Err(HubError::Offline { repo, revision, cache: options.cache.clone() });
        };
        return Ok(snapshot(&paths[0]));
    }
    let [first, rest @ ..] = REQUIRED;
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(options.endpoint.clone())
        .with_token(options.token.clone())
        .with_progress(options.progress)
        .with_retries(2)
        .build()
        .map_err(|source| transfer(model, options, first, source))?;
    let client = Client { api, cache, model, options };
    let fetched = snapshot(&client.get(first, &model.revision)?);
    // A branch can move between two files; all come from the commit that the first came from.
    for file in rest {
        client.get(file, &fetched.commit)?;
    }
    for file in OPTIONAL {
        match client.get(file, &fetched.commit) {
            Ok(_) | Err(HubError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(fetched)
}

fn repo(model: &HubModel, revision: &str) -> Repo {
    Repo::with_revision(model.repo.clone(), RepoType::Model, revision.to_owned())
}

/// A file in the cache.
fn cached(cache: &Cache, model: &HubModel, revision: &str, file: &str) -> Option<PathBuf> {
    let cached = cache.repo(repo(model, revision));
    // A commit is its own snapshot; a branch or tag is a reference to one.
    let by_commit = cached.pointer_path(revision).join(file);
    cached.get(file).or_else(|| Some(by_commit).filter(|path| path.exists()))
}

struct Client<'a> {
    api: Api,
    cache: Cache,
    model: &'a HubModel,
    options: &'a HubOptions,
}

impl Client<'_> {
    fn get(&self, file: &str, revision: &str) -> Result<PathBuf, HubError> {
        let path = match cached(&self.cache, self.model, revision, file) {
            Some(path) => path,
            None => self.download(file, revision).map_err(|source| match status(&source) {
                Some(status @ (401 | 403 | 404)) => HubError::NotFound {
                    repo: self.model.repo.clone(),
                    revision: self.model.revision.clone(),
                    file: file.to_owned(),
                    endpoint: self.options.endpoint.clone(),
                    status,
                },
                _ => transfer(self.model, self.options, file, source),
            })?,
        };
        check(self.model, file, &path)?;
        Ok(path)
    }

    fn download(&self, file: &str, revision: &str) -> Result<PathBuf, ApiError> {
        let repo = repo(self.model, revision);
        let remote = self.api.repo(repo.clone());
        let announced = self.api.metadata(&remote.url(file))?;
        let size = announced.size() as u64;
        // What an earlier attempt left is continued, unless nothing is left to ask for: servers refuse that.
        let part = self.cache.repo(repo).blob_path(announced.etag()).with_extension("part");
        if part.metadata().is_ok_and(|part| part.len() >= size) {
            std::fs::remove_file(&part)?;
        }
        let path = remote.download(file)?;
        if path.metadata()?.len() != size {
            std::fs::remove_file(path.canonicalize()?)?;
            std::fs::remove_file(&path)?;
            return Err(ApiError::InvalidResume);
        }
        Ok(path)
    }
}

/// The cache names large files by the SHA-256 that the hub announces, small ones by their git hash.
fn check(model: &HubModel, file: &str, path: &Path) -> Result<(), HubError> {
    let fail = |source| HubError::Cache { path: path.to_owned(), source };
    let blob = path.canonicalize().map_err(fail)?;
    let expected = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let found = crate::digest::of_file(&blob).map_err(fail)?;
    if found == expected {
        return Ok(());
    }
    std::fs::remove_file(&blob).map_err(fail)?;
    std::fs::remove_file(path).map_err(fail)?;
    Err(HubError::WrongHash { repo: model.repo.clone(), file: file.to_owned(), expected, found })
}

fn transfer(model: &HubModel, options: &HubOptions, file: &str, source: ApiError) -> HubError {
    HubError::Transfer {
        repo: model.repo.clone(),
        file: file.to_owned(),
        endpoint: options.endpoint.clone(),
        source: Box::new(source),
    }
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match &**error {
            ureq::Error::StatusCode(status) => Some(*status),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status(error),
        _ => None,
    }
}

/// `…/snapshots/COMMIT/config.json` to its directory and commit.
fn snapshot(config: &Path) -> Fetched {
    let directory = config.parent().unwrap_or(Path::new("")).to_owned();
    let commit = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Fetched { directory, commit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_revision() {
        let model =
            |repo: &str, revision: &str| Some(HubModel { repo: repo.to_owned(), revision: revision.to_owned() });
        assert_eq!(HubModel::parse("hf://a/b"), model("a/b", "main"));
        assert_eq!(HubModel::parse("hf://a/b@v1"), model("a/b", "v1"));
        for other in ["a/b", "hf://a", "hf://a/b/c", "hf://a/..", "hf://a/b@"] {
            assert_eq!(HubModel::parse(other), None, "{other}");
        }
    }
}
