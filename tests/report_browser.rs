//! The report in a real browser: it sorts, filters, opens the products behind a number, changes its language, works by
//! keyboard and prints, and the browser has nothing to complain about.
//!
//! The tests drive Chromium through chromedriver. Where they are not installed the tests say so and pass, except where
//! the environment variable `CI` is set.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::wd::PrintConfiguration;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a hostile description might hold.
const ATTACK: &str = "</script><img src=x onerror=\"document.title='broken'\"><svg onload=alert(1)>";

/// A driver process that ends with the test.
struct Driver {
    process: Child,
    address: String,
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A report in a browser.
struct Page {
    client: Client,
    driver: Driver,
    directory: TempDir,
}

fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| directories.iter().map(|directory| directory.join(name)).find(|file| file.is_file()))
}

/// Chromium and its driver, or nothing where the tests may be skipped.
fn browser() -> Option<(PathBuf, PathBuf)> {
    let found = program(&["chromium", "chromium-browser", "google-chrome"]).zip(program(&["chromedriver"]));
    if found.is_none() {
        let advice = "no Chromium with chromedriver on the path; install the packages chromium and chromium-driver";
        assert!(std::env::var_os("CI").is_none(), "{advice}");
        eprintln!("skipped: {advice}");
    }
    found
}

impl Driver {
    fn start(program: &Path) -> Driver {
        let mut process =
            Command::new(program).arg("--port=0").stdout(Stdio::piped()).spawn().expect("chromedriver starts");
        let mut lines = BufReader::new(process.stdout.take().expect("its output is piped")).lines();
        let port = lines.find_map(|line| {
            let line = line.expect("chromedriver writes text");
            Some(line.split_once("started successfully on port ")?.1.trim_end_matches('.').to_owned())
        });
        let address = format!("http://127.0.0.1:{}", port.expect("chromedriver says its port"));
        // Its output has to be read for as long as it runs, or it would stop.
        std::thread::spawn(move || lines.for_each(drop));
        Driver { process, address }
    }
}

/// Coded records, as `classify --keep-text` writes them: three plain ones, and one that attacks the page.
fn coded() -> String {
    let record = |id: &str, name: &str, text: &str, scenarios: Value, columns: Value| {
        json!({"id": id, "name": name, "text": text, "status": "coded", "scenarios": scenarios, "columns": columns})
            .to_string()
    };
    let found = |scenario: u32, start: usize, end: usize, text: &str| {
        let quote: String = text.chars().skip(start).take(end - start).collect();
        json!({"scenario": scenario, "probability": 0.9, "evidence": [{"start": start, "end": end, "text": quote}]})
    };
    let first = "面向门诊患者😀的导诊大模型，按症状推荐科室";
    let second = "Drafts discharge summaries and triages patients";
    [
        record(
            "a",
            "导诊",
            first,
            json!([found(8, 14, 21, first)]),
            json!({"released": "2024-05", "model_type": "text", "developer_type": "company",
                   "source_url": "https://example.org/a", "source_title": "A page"}),
        ),
        record(
            "b",
            "Writer",
            second,
            json!([found(8, 31, 47, second), found(15, 0, 26, second)]),
            json!({"released": "2025-01", "model_type": "text", "developer_type": "hospital", "name_en": "Writer"}),
        ),
        record("c", "TCM", "x", json!([22]), json!({"released": "2025-02", "model_type": "tcm"})),
        record(
            "d",
            ATTACK,
            ATTACK,
            json!([found(39, 0, 9, ATTACK)]),
            json!({"model_type": ATTACK, "developer": ATTACK, "source_url": "javascript:alert(1)"}),
        ),
    ]
    .join("\n")
}

impl Page {
    /// Writes a report of these records and opens it.
    async fn open(records: &str, arguments: &[&str]) -> Option<Page> {
        let (chromium, chromedriver) = browser()?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("coded.jsonl"), records).expect("written");
        let output = Command::new(assert_cmd::cargo::cargo_bin!("medscenario"))
            .args(["survey", "coded.jsonl", "--report", "report.html"])
            .args(arguments)
            .current_dir(directory.path())
            .env_remove("MEDSCENARIO_LANG")
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let driver = Driver::start(&chromedriver);
        let profile = format!("--user-data-dir={}", directory.path().join("profile").display());
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": chromium, "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--window-size=1200,900", profile,
            ]},
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object was written above") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver.address)
            .await
            .expect("a session");
        client.goto(&format!("file://{}", directory.path().join("report.html").display())).await.expect("opened");
        Some(Page { client, driver, directory })
    }

    async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn click(&self, selector: &str) {
        let element =
            self.client.find(Locator::Css(selector)).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        self.run(&format!(
            "document.querySelector({}).scrollIntoView({{block: 'center', behavior: 'instant'}})",
            json!(selector)
        ))
        .await;
        element.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    async fn texts(&self, selector: &str) -> Vec<String> {
        let script =
            format!("return Array.from(document.querySelectorAll({}), e => e.innerText.trim())", json!(selector));
        serde_json::from_value(self.run(&script).await).expect("texts")
    }

    /// Ends the session. Whatever the browser logged is a fault of the page.
    async fn close(self) {
        let session = self.client.session_id().await.expect("answered").expect("a session");
        let log = format!("{}/session/{session}/se/log", self.driver.address);
        let answer = tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent =
                ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).build().into();
            let answer = agent.post(&log).content_type("application/json").send(r#"{"type": "browser"}"#);
            answer.expect("chromedriver answers").body_mut().read_to_string().expect("text")
        });
        let log: Value = serde_json::from_str(&answer.await.expect("asked")).expect("JSON");
        self.client.close().await.expect("closed");
        assert_eq!(log["value"], json!([]), "the browser's console is not empty");
        drop(self.directory);
    }
}

#[tokio::test]
async fn tables_sort_by_number_and_name_and_filter_in_both_languages() {
    let Some(page) = Page::open(&coded(), &[]).await else { return };
    let names = "#table-scenarios tbody tr:not([hidden]) th .en";
    assert_eq!(page.texts(names).await[0], "Outpatient triage");
    page.click("#table-scenarios thead th:nth-child(1) .sort").await;
    assert_eq!(page.texts("#table-scenarios tbody td:first-child").await, ["39", "22", "15", "8"]);
    page.click("#table-scenarios thead th:nth-child(1) .sort").await;
    assert_eq!(page.texts("#table-scenarios tbody td:first-child").await, ["8", "15", "22", "39"]);
    page.click("#table-scenarios thead th:nth-child(2) .sort").await;
    let first = page.texts(names).await;
    let mut sorted = first.clone();
    sorted.sort();
    assert_eq!(first, sorted);
    let filter = page.client.find(Locator::Css("[data-filters=table-scenarios]")).await.expect("a filter");
    filter.send_keys("门诊").await.expect("typed");
    assert_eq!(page.texts(names).await, ["Outpatient triage"]);
    assert_eq!(page.texts("#table-scenarios tbody tr:not([hidden])").await.len(), 1);
    page.close().await;
}

#[tokio::test]
async fn a_number_opens_its_products_with_the_evidence_marked() {
    let Some(page) = Page::open(&coded(), &[]).await else { return };
    page.click("#table-scenarios .trace[data-value='8']").await;
    assert_eq!(page.texts("#panel-title").await, ["8 Outpatient triage"]);
    assert_eq!(page.texts("#panel-list h3").await, ["导诊", "Writer"]);
    // An emoji before the evidence is one character and two UTF-16 units.
    let marks = page.run("return Array.from(document.querySelectorAll('mark'), m => m.firstChild.data)").await;
    assert_eq!(marks, json!(["按症状推荐科室", "triages patients"]));
    assert_eq!(page.texts("#panel-list a").await, ["A page"]);
    let filter = page.client.find(Locator::Css("#panel-filter")).await.expect("a filter");
    filter.send_keys("DISCHARGE").await.expect("typed");
    assert_eq!(page.texts("#panel-list h3").await, ["Writer"]);
    page.click("#panel .close").await;
    // A mark of a chart opens the same products.
    let mark = "document.querySelector('figure.en .hit[data-by=pair][data-value=\"8-15\"]')";
    page.run(&format!("{mark}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")).await;
    assert_eq!(page.texts("#panel-list h3").await, ["Writer"]);
    page.close().await;
}

#[tokio::test]
async fn the_page_changes_its_language_and_says_so_to_assistive_technology() {
    let Some(page) = Page::open(&coded(), &["--lang", "zh"]).await else { return };
    assert_eq!(page.texts("h1").await, ["应用场景提及频次调查"]);
    assert_eq!(page.run("return document.documentElement.lang").await, "zh");
    page.click("[data-lang-to=en]").await;
    assert_eq!(page.texts("h1").await, ["Survey of scenario mentions"]);
    assert_eq!(page.client.title().await.expect("a title"), "Survey of scenario mentions");
    let state = "return [document.documentElement.lang, document.querySelector('[data-lang-to=en]').ariaPressed, \
                 document.querySelector(\"#table-scenarios .trace[data-value='8']\").ariaLabel]";
    assert_eq!(page.run(state).await, json!(["en", "true", "Outpatient triage: 2, show products"]));
    // In each language one drawing of every chart is visible.
    let visible =
        "return Array.from(document.querySelectorAll('figure.chart')).filter(f => f.offsetHeight).map(f => f.lang)";
    let languages: Vec<String> = serde_json::from_value(page.run(visible).await).expect("texts");
    assert!(languages.len() >= 6 && languages.iter().all(|lang| lang == "en"), "{languages:?}");
    page.close().await;
}

#[tokio::test]
async fn everything_can_be_reached_and_left_by_keyboard() {
    let Some(page) = Page::open(&coded(), &[]).await else { return };
    let reached =
        "const wanted = document.querySelector(arguments[0]); wanted.focus(); return document.activeElement === wanted";
    for selector in [".skip", "[data-lang-to=zh]", "#table-scenarios .sort", "#table-scenarios .trace", "summary"] {
        let focused = page.client.execute(reached, vec![json!(selector)]).await.expect("ran");
        assert_eq!(focused, true, "{selector}");
    }
    page.run("document.querySelector(\"#table-scenarios .trace[data-value='15']\").focus()").await;
    let focused = page.client.active_element().await.expect("an element");
    focused.send_keys(&Key::Enter.to_string()).await.expect("pressed");
    assert_eq!(page.texts("#panel-title").await, ["15 Medical record generation"]);
    assert_eq!(page.run("return document.activeElement.id").await, "panel-title");
    page.client.active_element().await.expect("an element").send_keys(&Key::Escape.to_string()).await.expect("pressed");
    assert_eq!(page.run("return document.getElementById('panel').open").await, false);
    assert_eq!(page.run("return document.activeElement.dataset.value").await, "15", "the focus returns to the number");
    page.close().await;
}

#[tokio::test]
async fn a_hostile_description_stays_text() {
    let Some(page) = Page::open(&coded(), &[]).await else { return };
    page.click("#table-scenarios .trace[data-value='39']").await;
    assert_eq!(page.texts("#panel-list h3").await, [ATTACK]);
    let found = "return [document.querySelectorAll('img').length, document.querySelectorAll('#panel a').length, document.title]";
    assert_eq!(page.run(found).await, json!([0, 0, "Survey of scenario mentions"]));
    page.close().await;
}

#[tokio::test]
async fn the_page_prints_with_all_tables_open() {
    let Some(page) = Page::open(&coded(), &["--compare"]).await else { return };
    let pdf = page.client.print(PrintConfiguration::default()).await.expect("printed");
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 20_000, "{} bytes", pdf.len());
    let open = "window.dispatchEvent(new Event('beforeprint')); \
                return document.querySelectorAll('details:not([open])').length";
    assert_eq!(page.run(open).await, 0);
    page.close().await;
}

#[tokio::test]
async fn a_result_without_texts_still_shows_its_products_and_quotations() {
    let records = json!({"id": "a", "status": "coded",
        "scenarios": [{"scenario": 8, "probability": 0.9, "evidence": [{"start": 0, "end": 2, "text": "导诊"}]}]});
    let Some(page) = Page::open(&records.to_string(), &["--lang", "zh"]).await else { return };
    page.click("#table-scenarios .trace[data-value='8']").await;
    assert_eq!(page.texts("#panel-list h3").await, ["a"]);
    assert_eq!(page.texts("#panel-list blockquote").await, ["导诊 (8)"]);
    page.close().await;
}
