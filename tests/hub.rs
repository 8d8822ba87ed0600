//! `medscenario model fetch` against a local server with the URL layout of the Hugging Face hub.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use insta::assert_snapshot;
use tempfile::TempDir;

use medscenario::digest;

#[path = "fixtures/tiny.rs"]
mod tiny;

use tiny::Tiny;

const MODEL: &str = "hf://tiny/bert";
const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
const WEIGHTS: &str = "model.safetensors";

type Files = BTreeMap<String, Vec<u8>>;

/// What the server has, and how it misbehaves.
struct Hub {
    commits: BTreeMap<&'static str, Files>,
    /// Commit of `main` and of the tag `v1`.
    main: &'static str,
    /// `main` moves here as soon as a file has been sent.
    next: Option<&'static str>,
    token: Option<&'static str>,
    /// Hash that is announced for the weights instead of theirs.
    announced: Option<String>,
    /// Faults of the next replies with content of a file, one each.
    faults: Vec<(&'static str, Fault)>,
    log: Vec<Request>,
    stop: bool,
}

/// A fault of one reply.
#[derive(Clone, Copy)]
enum Fault {
    /// The connection ends after so many bytes of the content.
    Break(usize),
    /// As `Break`, and the length was not announced.
    BreakUnnoticed(usize),
    Status(u16),
}

#[derive(Debug, Clone, Default)]
struct Request {
    path: String,
    range: Option<String>,
    authorization: Option<String>,
}

impl Request {
    /// Whether only size and hash are asked for.
    fn is_question(&self) -> bool {
        self.range.as_deref() == Some("bytes=0-0")
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    fault: Option<Fault>,
}

impl Reply {
    fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), fault: None }
    }
}

impl Hub {
    fn new(files: Files) -> Hub {
        Hub {
            commits: BTreeMap::from([(FIRST, files)]),
            main: FIRST,
            next: None,
            token: None,
            announced: None,
            faults: Vec::new(),
            log: Vec::new(),
            stop: false,
        }
    }

    fn files(&mut self) -> &mut Files {
        self.commits.get_mut(self.main).expect("main is a commit")
    }

    fn reply(&mut self, request: &Request, address: &str) -> Reply {
        self.log.push(request.clone());
        if let Some(hash) = request.path.strip_prefix("/cdn/") {
            let mut weights = self.commits.values().filter_map(|files| files.get(WEIGHTS));
            let Some(content) = weights.find(|content| digest::of_bytes(content) == hash).cloned() else {
                return Reply::status(404);
            };
            return self.content(WEIGHTS, &content, request, vec![("etag", "\"of the store\"".to_owned())]);
        }
        let cached = request.path.strip_prefix("/api/resolve-cache/models/tiny/bert/");
        let direct = request.path.strip_prefix("/tiny/bert/resolve/");
        let Some((revision, file)) = cached.or(direct).and_then(|rest| rest.split_once('/')) else {
            return Reply::status(404);
        };
        if self.token.is_some_and(|token| request.authorization != Some(format!("Bearer {token}"))) {
            return Reply::status(401);
        }
        let revision = if ["main", "v1"].contains(&revision) { self.main } else { revision };
        let Some((commit, files)) = self.commits.get_key_value(revision) else {
            return Reply::status(404);
        };
        let Some(content) = files.get(file).cloned() else {
            return Reply::status(404);
        };
        let hash = digest::of_bytes(&content);
        let mut headers = vec![("x-repo-commit", (*commit).to_owned())];
        // The hub sends small files itself or from another path, and large ones from another server.
        match file {
            WEIGHTS => {
                headers.push(("x-linked-etag", format!("\"{}\"", self.announced.as_ref().unwrap_or(&hash))));
                headers.push(("x-linked-size", content.len().to_string()));
                headers.push(("etag", "\"of the redirect\"".to_owned()));
                headers.push(("location", format!("{address}/cdn/{hash}")));
                Reply { status: 302, headers, body: Vec::new(), fault: None }
            }
            "tokenizer.json" if cached.is_none() => {
                headers.push(("location", format!("/api/resolve-cache/models/tiny/bert/{commit}/{file}")));
                Reply { status: 307, headers, body: Vec::new(), fault: None }
            }
            _ => {
                headers.push(("etag", format!("\"{}\"", &hash[..40])));
                self.content(file, &content, request, headers)
            }
        }
    }

    fn content(
        &mut self,
        file: &str,
        content: &[u8],
        request: &Request,
        mut headers: Vec<(&'static str, String)>,
    ) -> Reply {
        let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let (from, to) = range.expect("every request asks for a range");
        let from: usize = from.parse().expect("a range starts with a number");
        let to = to.parse().unwrap_or(content.len() - 1);
        if from >= content.len() {
            return Reply::status(416);
        }
        headers.push(("content-range", format!("bytes {from}-{to}/{}", content.len())));
        let mut fault = None;
        if !request.is_question() {
            self.main = self.next.take().unwrap_or(self.main);
            let at = self.faults.iter().position(|(faulty, _)| *faulty == file);
            fault = at.map(|at| self.faults.remove(at).1);
        }
        match fault {
            Some(Fault::Status(status)) => Reply::status(status),
            fault => Reply { status: 206, headers, body: content[from..=to].to_vec(), fault },
        }
    }
}

struct Server {
    address: String,
    hub: Arc<Mutex<Hub>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(hub: Hub) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("the port is known"));
        let hub = Arc::new(Mutex::new(hub));
        let (shared, own) = (Arc::clone(&hub), address.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.lock().expect("no thread has failed").stop {
                    return;
                }
                // A client that goes away is no failure of the server; the test sees it at the client.
                let _ = stream.and_then(|stream| serve(stream, &shared, &own));
            }
        });
        Server { address, hub, thread: Some(thread) }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().expect("no thread has failed")
    }

    /// Requests since the last call.
    fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.hub().log)
    }

    /// Ranges that were asked for in the content of the weights since the last call.
    fn ranges(&self) -> Vec<String> {
        let log = self.log().into_iter().filter(|request| request.path.starts_with("/cdn/") && !request.is_question());
        log.filter_map(|request| request.range).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(mut hub) = self.hub.lock() {
            hub.stop = true;
        }
        // Wakes the thread up.
        let woken = TcpStream::connect(self.address.trim_start_matches("http://"));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let failed = thread.join().is_err();
            assert!(!failed || std::thread::panicking(), "the server has failed");
        }
    }
}

/// Answers one request and closes the connection.
fn serve(mut stream: TcpStream, hub: &Mutex<Hub>, address: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 << 10 {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let mut request = Request { path, ..Request::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let reply = hub.lock().expect("no thread has failed").reply(&request, address);
    let mut text = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        text += &format!("{name}: {value}\r\n");
    }
    let mut body = reply.body.as_slice();
    let whole = body.len();
    if let Some(Fault::Break(length) | Fault::BreakUnnoticed(length)) = reply.fault {
        body = &body[..length];
    }
    if !matches!(reply.fault, Some(Fault::BreakUnnoticed(_))) {
        text += &format!("Content-Length: {whole}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes())?;
    stream.write_all(body)
}

/// A server, and a home directory for the client.
struct Place {
    server: Server,
    home: TempDir,
}

impl Place {
    fn new() -> Place {
        let files = Tiny::new("bert", "mean_normalized").files();
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        Place { server: Server::start(Hub::new(files)), home }
    }

    fn fetch(&self, model: &str, variables: &[(&str, &str)]) -> Output {
        fetch(&self.server.address, self.home.path(), model, variables)
    }

    fn repository(&self) -> PathBuf {
        self.home.path().join("hub/models--tiny--bert")
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository().join("snapshots").join(commit)
    }

    /// The directory that a successful fetch prints.
    #[track_caller]
    fn fetched(&self, model: &str, variables: &[(&str, &str)]) -> PathBuf {
        printed(&self.fetch(model, variables))
    }

    /// The message of a failed fetch, without what differs between runs.
    #[track_caller]
    fn failure(&self, model: &str, variables: &[(&str, &str)]) -> String {
        let message = message(&self.fetch(model, variables));
        message.replace(&self.server.address, "ENDPOINT").replace(&self.home.path().display().to_string(), "HOME")
    }

    fn weights(&self) -> Vec<u8> {
        self.server.hub().files()[WEIGHTS].clone()
    }

    /// Places what an interrupted attempt leaves of the file with this hash.
    fn leave_part(&self, etag: &str, content: &[u8]) {
        let blobs = self.repository().join("blobs");
        std::fs::create_dir_all(&blobs).expect("a directory can be made");
        std::fs::write(blobs.join(format!("{etag}.part")), content).expect("a file can be written");
    }
}

fn fetch(endpoint: &str, home: &Path, model: &str, variables: &[(&str, &str)]) -> Output {
    command(endpoint, home, variables).args(["model", "fetch", model]).output().expect("the program can be started")
}

fn command(endpoint: &str, home: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medscenario"));
    // Nothing of the machine's own settings, and no proxy between the program and the server.
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", home).envs(variables.iter().copied());
    command
}

#[track_caller]
fn printed(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout.clone()).expect("a path is UTF-8 here");
    let line = stdout.strip_suffix('\n').expect("the output ends its line");
    assert!(!line.contains('\n'), "one line: {stdout}");
    PathBuf::from(line)
}

#[track_caller]
fn message(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "fails and prints nothing");
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

#[test]
fn a_fetched_checkpoint_is_printed_as_its_snapshot_and_found_there_offline_without_the_server() {
    let place = Place::new();
    let output = place.fetch(MODEL, &[]);
    let directory = printed(&output);
    assert_eq!(directory, place.snapshot(FIRST));
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("note: tiny/bert at commit {FIRST}\n"));
    for (name, content) in place.server.hub().files() {
        let found = std::fs::read(directory.join(name)).expect("the file was fetched");
        assert!(found == *content, "{name} is as on the server");
    }
    let Place { server, home } = place;
    let address = server.address.clone();
    drop(server);
    let offline = fetch(&address, home.path(), MODEL, &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(printed(&offline), directory);
    let encoded = command(&address, home.path(), &[("HF_HUB_OFFLINE", "true")])
        .args(["--quiet", "model", "embed", "--encoder", MODEL])
        .arg(text_file(home.path()))
        .output()
        .expect("the program can be started");
    assert!(encoded.status.success() && encoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&encoded.stderr));
    assert!(encoded.stdout.starts_with(b"{\"id\":"), "{}", String::from_utf8_lossy(&encoded.stdout));
}

fn text_file(directory: &Path) -> PathBuf {
    let path = directory.join("texts.txt");
    std::fs::write(&path, "智能导诊\n").expect("a file can be written");
    path
}

#[test]
fn a_second_fetch_asks_the_server_for_nothing_that_is_in_the_cache() {
    let place = Place::new();
    place.server.hub().files().remove("sentence_bert_config.json");
    let directory = place.fetched(MODEL, &[]);
    assert!(place.server.log().len() > 5);
    assert_eq!(place.fetched(MODEL, &[]), directory);
    let asked: Vec<String> = place.server.log().into_iter().map(|request| request.path).collect();
    assert_eq!(asked, [format!("/tiny/bert/resolve/{FIRST}/sentence_bert_config.json")]);
}

#[test]
fn the_cache_directory_can_be_chosen_and_an_endpoint_may_end_in_a_slash() {
    let place = Place::new();
    let cache = place.home.path().join("elsewhere");
    let endpoint = format!("{}/", place.server.address);
    let cache_text = cache.to_string_lossy().into_owned();
    let directory = place.fetched(MODEL, &[("HF_HUB_CACHE", &cache_text), ("HF_ENDPOINT", &endpoint)]);
    assert_eq!(directory, cache.join("models--tiny--bert/snapshots").join(FIRST));
    assert!(!place.home.path().join("hub").exists());
    assert!(place.server.log().iter().all(|request| !request.path.contains("//")));
}

#[test]
fn a_pinned_commit_is_fetched_and_stays_when_the_branch_moves() {
    let place = Place::new();
    {
        let mut hub = place.server.hub();
        let mut files = hub.files().clone();
        files.remove("modules.json");
        hub.commits.insert(SECOND, files);
        hub.main = SECOND;
    }
    let pinned = format!("{MODEL}@{FIRST}");
    assert_eq!(place.fetched(&pinned, &[]), place.snapshot(FIRST));
    assert!(place.server.log().iter().all(|request| request.path.starts_with("/cdn/") || request.path.contains(FIRST)));
    assert!(place.snapshot(FIRST).join("modules.json").exists());
    assert_eq!(place.fetched(MODEL, &[]), place.snapshot(SECOND));
    assert!(!place.snapshot(SECOND).join("modules.json").exists());
    let offline = [("HF_HUB_OFFLINE", "1")];
    assert_eq!(place.fetched(&pinned, &offline), place.snapshot(FIRST));
    assert_eq!(place.fetched(MODEL, &offline), place.snapshot(SECOND));
    // Fetched as a branch, asked for as the commit that the branch stood for.
    assert_eq!(place.fetched(&format!("{MODEL}@{SECOND}"), &offline), place.snapshot(SECOND));
}

#[test]
fn a_tag_is_a_reference_to_its_commit() {
    let place = Place::new();
    assert_eq!(place.fetched(&format!("{MODEL}@v1"), &[]), place.snapshot(FIRST));
    assert_eq!(place.fetched(&format!("{MODEL}@v1"), &[("HF_HUB_OFFLINE", "1")]), place.snapshot(FIRST));
}

#[test]
fn all_files_come_from_one_commit_even_if_the_branch_moves_meanwhile() {
    let place = Place::new();
    {
        let mut hub = place.server.hub();
        let files = Tiny::new("roberta", "cls").files();
        hub.commits.insert(SECOND, files);
        hub.next = Some(SECOND);
    }
    assert_eq!(place.fetched(MODEL, &[]), place.snapshot(FIRST));
    assert_eq!(place.server.hub().main, SECOND);
    let found = std::fs::read(place.snapshot(FIRST).join(WEIGHTS)).expect("the weights were fetched");
    assert!(found == place.server.hub().commits[FIRST][WEIGHTS]);
    assert!(!place.snapshot(SECOND).exists());
}

#[test]
fn a_token_is_sent_as_bearer_from_the_variable_or_the_file() {
    let place = Place::new();
    place.server.hub().token = Some("hf_secret");
    let sent = |place: &Place| -> Vec<Option<String>> {
        let to_hub = place.server.log().into_iter().filter(|request| !request.path.starts_with("/cdn/"));
        to_hub.map(|request| request.authorization).collect()
    };
    let bearer = |token: &str| Some(format!("Bearer {token}"));

    place.failure(MODEL, &[]);
    assert_eq!(sent(&place), [None]);
    place.failure(MODEL, &[("HF_TOKEN", "hf_other")]);
    assert_eq!(sent(&place), [bearer("hf_other")]);
    place.fetched(MODEL, &[("HF_TOKEN", "hf_secret\n")]);
    let authorizations = sent(&place);
    assert!(authorizations.len() > 5 && authorizations.iter().all(|sent| *sent == bearer("hf_secret")));

    std::fs::remove_dir_all(place.home.path().join("hub")).expect("the cache can be removed");
    std::fs::write(place.home.path().join("token"), "hf_secret\n").expect("a file can be written");
    place.fetched(MODEL, &[]);
    assert!(sent(&place).iter().all(|sent| *sent == bearer("hf_secret")));
}

#[test]
fn what_the_server_does_not_have_or_does_not_show_is_named() {
    let place = Place::new();
    assert_snapshot!(
        place.failure("hf://tiny/gpt", &[]),
        @"error: `tiny/gpt` at revision `main` has no `config.json` at ENDPOINT (status 404); check the name and revision, and HF_TOKEN for a private repository"
    );
    assert_snapshot!(
        place.failure("hf://tiny/bert@v9", &[]),
        @"error: `tiny/bert` at revision `v9` has no `config.json` at ENDPOINT (status 404); check the name and revision, and HF_TOKEN for a private repository"
    );
    place.server.hub().files().remove(WEIGHTS);
    assert_snapshot!(
        place.failure(MODEL, &[]),
        @"error: `tiny/bert` at revision `main` has no `model.safetensors` at ENDPOINT (status 404); check the name and revision, and HF_TOKEN for a private repository"
    );
    place.server.hub().token = Some("hf_secret");
    assert_snapshot!(
        place.failure(MODEL, &[]),
        @"error: `tiny/bert` at revision `main` has no `model.safetensors` at ENDPOINT (status 401); check the name and revision, and HF_TOKEN for a private repository"
    );
    assert!(!place.failure(MODEL, &[("HF_TOKEN", "hf_other")]).contains("hf_other"), "a token is not printed");
}

#[test]
fn a_name_that_is_none_is_refused_before_any_request() {
    let place = Place::new();
    for model in ["hf://tiny", "hf://tiny/bert/deep", "tiny/bert", "hf://tiny/bert@"] {
        let expected =
            format!("error: `{model}` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION\n");
        assert_eq!(place.failure(model, &[]), expected);
    }
    assert!(place.server.log().is_empty());
}

#[test]
fn optional_files_may_be_absent() {
    let place = Place::new();
    place.server.hub().files().retain(|name, _| ["config.json", "tokenizer.json", WEIGHTS].contains(&name.as_str()));
    let directory = place.fetched(MODEL, &[]);
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .expect("the snapshot is a directory")
        .map(|entry| entry.expect("the directory can be read").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["config.json", WEIGHTS, "tokenizer.json"]);
    assert_eq!(place.fetched(MODEL, &[("HF_HUB_OFFLINE", "1")]), directory);
}

#[test]
fn a_download_that_breaks_off_is_continued() {
    let place = Place::new();
    place.server.hub().faults = vec![(WEIGHTS, Fault::Break(5000))];
    let directory = place.fetched(MODEL, &[]);
    assert_eq!(place.server.ranges(), ["bytes=0-", "bytes=5000-"]);
    assert!(std::fs::read(directory.join(WEIGHTS)).expect("the weights were fetched") == place.weights());
}

#[test]
fn a_download_that_keeps_breaking_off_fails_and_the_next_fetch_continues_it() {
    let place = Place::new();
    let unavailable = (WEIGHTS, Fault::Status(503));
    place.server.hub().faults = vec![(WEIGHTS, Fault::Break(5000)), unavailable, unavailable, unavailable];
    assert_snapshot!(place.failure(MODEL, &[]), @r"
    error: Failed to fetch `model.safetensors` of `tiny/bert` from ENDPOINT; check the network, HF_ENDPOINT, or use HF_HUB_OFFLINE=1 with a filled cache
      Caused by: Too many retries: request error: http status: 503
    ");
    assert!(!place.snapshot(FIRST).join(WEIGHTS).exists());
    assert_snapshot!(
        place.failure(MODEL, &[("HF_HUB_OFFLINE", "1")]),
        @"error: `tiny/bert` at revision `main` is not in the cache `HOME/hub`, and HF_HUB_OFFLINE forbids fetching it"
    );
    place.server.hub().faults.clear();
    place.server.log();
    let directory = place.fetched(MODEL, &[]);
    assert_eq!(place.server.ranges(), ["bytes=5000-"]);
    assert!(std::fs::read(directory.join(WEIGHTS)).expect("the weights were fetched") == place.weights());
}

#[test]
fn a_complete_or_overlong_part_of_an_earlier_attempt_is_fetched_anew() {
    for surplus in [0, 7] {
        let place = Place::new();
        let mut part = place.weights();
        part.extend(vec![0; surplus]);
        place.leave_part(&digest::of_bytes(&place.weights()), &part);
        let directory = place.fetched(MODEL, &[]);
        assert_eq!(place.server.ranges(), ["bytes=0-"]);
        assert!(std::fs::read(directory.join(WEIGHTS)).expect("the weights were fetched") == place.weights());
    }
}

#[test]
fn a_part_of_something_else_is_noticed_by_the_hash_and_removed() {
    let place = Place::new();
    place.leave_part(&digest::of_bytes(&place.weights()), b"of another file");
    assert!(place.failure(MODEL, &[]).contains("is damaged"));
    place.fetched(MODEL, &[]);
}

#[test]
fn a_file_without_hash_that_ends_early_is_noticed_by_its_size_and_removed() {
    let place = Place::new();
    place.server.hub().faults = vec![("tokenizer.json", Fault::BreakUnnoticed(100))];
    assert_snapshot!(place.failure(MODEL, &[]), @r"
    error: Failed to fetch `tokenizer.json` of `tiny/bert` from ENDPOINT; check the network, HF_ENDPOINT, or use HF_HUB_OFFLINE=1 with a filled cache
      Caused by: Invalid part file - corrupted file
    ");
    assert!(!place.snapshot(FIRST).join("tokenizer.json").exists());
    place.fetched(MODEL, &[]);
}

#[test]
fn weights_with_another_hash_than_announced_are_removed_and_the_next_fetch_works() {
    let place = Place::new();
    let announced = "0123456789abcdef".repeat(4);
    place.server.hub().announced = Some(announced.clone());
    let found = digest::of_bytes(&place.weights());
    assert_snapshot!(
        place.failure(MODEL, &[]).replace(&found, "FOUND"),
        @"error: `model.safetensors` of `tiny/bert` is damaged: its SHA-256 is FOUND, the server announced 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef; it was removed from the cache, fetch it again"
    );
    assert!(!place.repository().join("blobs").join(&announced).exists());
    assert!(!place.snapshot(FIRST).join(WEIGHTS).exists());
    assert!(place.snapshot(FIRST).join(WEIGHTS).symlink_metadata().is_err(), "no link to nothing is left");
    place.server.hub().announced = None;
    let directory = place.fetched(MODEL, &[]);
    assert!(std::fs::read(directory.join(WEIGHTS)).expect("the weights were fetched") == place.weights());
}

#[test]
fn weights_that_were_damaged_in_the_cache_are_removed_and_the_next_fetch_works() {
    let place = Place::new();
    let weights = place.fetched(MODEL, &[]).join(WEIGHTS);
    let mut damaged = place.weights();
    *damaged.last_mut().expect("the weights are not empty") ^= 1;
    std::fs::write(&weights, damaged).expect("the cache can be written");
    assert!(place.failure(MODEL, &[]).contains("is damaged"));
    place.fetched(MODEL, &[]);
    assert!(std::fs::read(&weights).expect("the weights were fetched") == place.weights());
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_an_error_after_the_fetch() {
    let place = Place::new();
    place.server.hub().files().insert("config.json".to_owned(), b"{\"model_type\": \"gpt2\"}".to_vec());
    assert_snapshot!(place.failure(MODEL, &[]), @r"
    note: tiny/bert at commit 1111111111111111111111111111111111111111
    error: `config.json` of checkpoint `HOME/hub/models--tiny--bert/snapshots/1111111111111111111111111111111111111111` cannot be used: `model_type` is `gpt2`; expected `bert`, `roberta` or `xlm-roberta`
    ");
}

#[test]
fn a_server_that_fails_or_is_no_hub_is_an_error() {
    let place = Place::new();
    place.server.hub().faults = vec![("config.json", Fault::Status(500)); 4];
    assert_snapshot!(place.failure(MODEL, &[]), @r"
    error: Failed to fetch `config.json` of `tiny/bert` from ENDPOINT; check the network, HF_ENDPOINT, or use HF_HUB_OFFLINE=1 with a filled cache
      Caused by: Too many retries: request error: http status: 500
    ");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = format!("http://{}", listener.local_addr().expect("the port is known"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the program connects");
        let mut buffer = [0; 1024];
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit can be set");
        let read = stream.read(&mut buffer).expect("the program asks");
        assert!(buffer[..read].starts_with(b"GET /tiny/bert/"));
        let page = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        stream.write_all(page).expect("the program listens");
    });
    let other = message(&fetch(&address, place.home.path(), MODEL, &[]));
    server.join().expect("the server has not failed");
    assert_snapshot!(other.replace(&address, "ENDPOINT"), @r"
    error: Failed to fetch `config.json` of `tiny/bert` from ENDPOINT; check the network, HF_ENDPOINT, or use HF_HUB_OFFLINE=1 with a filled cache
      Caused by: Header etag is missing
    ");
}

#[test]
fn a_server_that_cannot_be_reached_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = format!("http://{}", listener.local_addr().expect("the port is known"));
    drop(listener);
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let message = message(&fetch(&address, home.path(), MODEL, &[]));
    let (first, cause) = message.split_once('\n').expect("the message has a cause");
    assert_snapshot!(
        first.replace(&address, "ENDPOINT"),
        @"error: Failed to fetch `config.json` of `tiny/bert` from ENDPOINT; check the network, HF_ENDPOINT, or use HF_HUB_OFFLINE=1 with a filled cache"
    );
    assert!(cause.starts_with("  Caused by: "), "{cause}");
}

#[test]
fn offline_with_an_empty_cache_is_an_error_without_a_request() {
    let place = Place::new();
    assert_snapshot!(
        place.failure(MODEL, &[("HF_HUB_OFFLINE", "1")]),
        @"error: `tiny/bert` at revision `main` is not in the cache `HOME/hub`, and HF_HUB_OFFLINE forbids fetching it"
    );
    assert_snapshot!(
        place.failure(&format!("{MODEL}@{FIRST}"), &[("HF_HUB_OFFLINE", "YES")]),
        @"error: `tiny/bert` at revision `1111111111111111111111111111111111111111` is not in the cache `HOME/hub`, and HF_HUB_OFFLINE forbids fetching it"
    );
    assert!(place.server.log().is_empty());
    place.fetched(MODEL, &[("HF_HUB_OFFLINE", "0")]);
}
