"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const data = JSON.parse(document.getElementById("data").textContent);
  const panel = document.getElementById("panel");
  const PAGE = 50;
  const language = () => root.dataset.lang;
  const say = (zh, en) => (language() === "zh" ? zh : en);
  const named = (pair) => (pair ? pair[language() === "zh" ? 0 : 1] : "");
  const fold = (text) => text.normalize("NFKC").toLowerCase();

  /* Language */
  function speak(lang) {
    root.dataset.lang = lang;
    root.lang = lang;
    document.title = say("应用场景提及频次调查", "Survey of scenario mentions");
    for (const button of document.querySelectorAll("[data-lang-to]")) {
      button.setAttribute("aria-pressed", String(button.dataset.langTo === lang));
    }
    for (const button of document.querySelectorAll(".trace")) {
      button.setAttribute("aria-label", say(button.dataset.labelZh, button.dataset.labelEn));
    }
    for (const input of document.querySelectorAll("[data-hint-zh]")) {
      input.placeholder = say(input.dataset.hintZh, input.dataset.hintEn);
      if (input.dataset.filters) narrow(input);
    }
    if (panel.open) show(shown.by, shown.value);
  }
  for (const button of document.querySelectorAll("[data-lang-to]")) {
    button.addEventListener("click", () => speak(button.dataset.langTo));
  }

  /* Tables */
  function content(cell) {
    if (cell.dataset.sort !== undefined) return cell.dataset.sort;
    const own = cell.querySelector("span." + language());
    return (own || cell).textContent.trim();
  }
  function order(header) {
    const table = header.closest("table");
    const column = header.cellIndex;
    const descending = header.getAttribute("aria-sort") === "none"
      ? !header.classList.contains("words") : header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentElement.cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const collator = new Intl.Collator(language() === "zh" ? "zh" : "en", { numeric: true });
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, index) => ({ row, index, key: content(row.cells[column]) }));
    const numeric = rows.every(({ key }) => key !== "" && !Number.isNaN(Number(key)));
    rows.sort((a, b) => {
      const compared = numeric ? Number(a.key) - Number(b.key) : collator.compare(a.key, b.key);
      return (descending ? -compared : compared) || a.index - b.index;
    });
    body.append(...rows.map(({ row }) => row));
  }
  for (const header of document.querySelectorAll("th[aria-sort]")) {
    header.querySelector(".sort").addEventListener("click", () => order(header));
  }
  function narrow(input) {
    const wanted = fold(input.value.trim());
    const rows = Array.from(document.getElementById(input.dataset.filters).tBodies[0].rows);
    let left = 0;
    for (const row of rows) {
      row.hidden = wanted !== "" && !fold(row.textContent).includes(wanted);
      if (!row.hidden) left += 1;
    }
    const status = input.closest(".filter").querySelector("[role=status]");
    status.textContent = wanted === "" ? "" : say(`${left}/${rows.length} 行`, `${left} of ${rows.length} rows`);
  }
  for (const input of document.querySelectorAll("[data-filters]")) {
    input.addEventListener("input", () => narrow(input));
  }
  for (const button of document.querySelectorAll(".unfold")) {
    button.addEventListener("click", () => {
      for (const part of document.querySelectorAll(".tree details")) part.open = button.dataset.open === "true";
    });
  }

  /* Products behind a number */
  const among = {
    all: () => true,
    status: (product, value) => product.status === value,
    year: (product, value) => product.year === value,
    model_type: (product, value) => product.model_type === value,
    developer_type: (product, value) => product.developer_type === value,
    scenario: (product, value) => product.scenarios.some((found) => String(found.scenario) === value),
    pair: (product, value) => value.split("-").every((id) => among.scenario(product, id)),
    category: (product, value) => product.scenarios.some((found) => String(above(found)[2]) === value),
    section: (product, value) => product.scenarios.some((found) => String(above(found)[3]) === value),
  };
  const above = (found) => data.scenarios[found.scenario] || ["", "", 0, 0];
  const chosen = {
    scenario: (found, value) => String(found.scenario) === value,
    pair: (found, value) => value.split("-").includes(String(found.scenario)),
    category: (found, value) => String(above(found)[2]) === value,
    section: (found, value) => String(above(found)[3]) === value,
  };
  const statuses = {
    coded: ["有场景", "coded"], outside: ["体系之外", "outside the taxonomy"], unspecified: ["未说明用途", "no stated use"],
  };
  const word = (value) => named(data.words[value]) || value;
  function heading(by, value) {
    const scenario = (id) => `${id} ${named(data.scenarios[id])}`;
    switch (by) {
      case "scenario": return scenario(value);
      case "pair": return value.split("-").map(scenario).join(" + ");
      case "category": return named(data.categories[value]);
      case "section": return named(data.sections[value]);
      case "year": return value || say("年份不详", "Year unknown");
      case "status": return say("产品：", "Products: ") + named(statuses[value]);
      case "model_type": return say("类型：", "Type: ") + word(value);
      case "developer_type": return say("研发单位：", "Developer: ") + word(value);
      default: return say("全部产品", "All products");
    }
  }

  let shown = { by: "all", value: "", limit: PAGE };
  let opener = null;
  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  /* The description, with the places of the evidence marked. Places count characters, not UTF-16 units. */
  function marked(product, findings) {
    const paragraph = element("p", "text");
    const characters = Array.from(product.text);
    const edges = new Set([0, characters.length]);
    const places = findings.flatMap((found) => found.marks.map(([from, to]) => ({ from, to, id: found.scenario })));
    for (const { from, to } of places) edges.add(from).add(to);
    const points = Array.from(edges).sort((a, b) => a - b);
    points.slice(1).forEach((to, index) => {
      const from = points[index];
      const piece = characters.slice(from, to).join("");
      const ids = [...new Set(places.filter((place) => place.from <= from && to <= place.to).map((place) => place.id))];
      if (ids.length === 0) {
        paragraph.append(piece);
        return;
      }
      const mark = element("mark", "", piece);
      mark.title = ids.map((id) => `${id} ${named(data.scenarios[id])}`).join("; ");
      mark.append(element("sup", "", ids.join(",")));
      paragraph.append(mark);
    });
    if (product.cut) paragraph.append(" …");
    return paragraph;
  }
  function item(product) {
    const entry = element("li");
    entry.append(element("h3", "", say(product.name_zh, product.name_en) || product.id));
    const developer = say(product.developer_zh, product.developer_en);
    const kind = [product.model_type, product.developer_type].filter((value) => value !== "").map(word);
    const facts = [product.id, developer, product.year, ...kind, named(statuses[product.status])];
    entry.append(element("p", "meta", facts.filter((fact) => fact).join(" · ")));
    const selects = chosen[shown.by] || (() => false);
    const selected = product.scenarios.filter((found) => selects(found, shown.value));
    const list = element("ul", "findings");
    for (const found of product.scenarios) {
      const probability = found.probability === null ? "" : ` ${found.probability.toFixed(2)}`;
      const label = `${found.scenario} ${named(data.scenarios[found.scenario])}${probability}`;
      list.append(element("li", selected.includes(found) ? "selected" : "", label));
    }
    if (list.children.length) entry.append(list);
    const evidence = selected.length ? selected : product.scenarios;
    if (product.text) entry.append(marked(product, evidence));
    for (const found of evidence) {
      for (const quote of found.quotes) {
        entry.append(element("blockquote", "", `${quote} (${found.scenario})`));
      }
    }
    if (product.translation) entry.append(element("p", "text translation", product.translation));
    if (product.link) {
      const source = element("p", "meta", say("来源：", "Source: "));
      const link = element("a", "", product.source || product.link);
      link.href = product.link;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
      source.append(link);
      entry.append(source);
    }
    return entry;
  }
  function show(by, value, limit = PAGE) {
    shown = { by, value, limit };
    const all = data.products.filter((product) => among[by](product, value));
    const wanted = fold(document.getElementById("panel-filter").value.trim());
    const fields = (product) => [product.id, product.name_zh, product.name_en, product.developer_zh,
      product.developer_en, product.text, product.translation];
    const found = wanted === "" ? all : all.filter((product) => fold(fields(product).join("\n")).includes(wanted));
    document.getElementById("panel-title").textContent = heading(by, value);
    const capped = data.products.length < data.n_records
      ? say("（页面只嵌入部分产品）", " (the page embeds a part of the products)") : "";
    document.getElementById("panel-shown").textContent = say(
      `${found.length} 个产品，显示 ${Math.min(limit, found.length)} 个${capped}`,
      `${found.length} products, ${Math.min(limit, found.length)} shown${capped}`);
    document.getElementById("panel-list").replaceChildren(...found.slice(0, limit).map(item));
    document.getElementById("panel-more").parentElement.hidden = found.length <= limit;
  }
  function open(source) {
    opener = source;
    document.getElementById("panel-filter").value = "";
    show(source.dataset.by, source.dataset.value);
    panel.showModal();
    panel.scrollTop = 0;
    document.getElementById("panel-title").focus();
  }
  for (const source of document.querySelectorAll(".trace, .hit")) {
    source.addEventListener("click", () => open(source));
  }
  document.getElementById("panel-filter").addEventListener("input", () => show(shown.by, shown.value));
  document.getElementById("panel-more").addEventListener("click", () => show(shown.by, shown.value, shown.limit + PAGE));
  panel.querySelector(".close").addEventListener("click", () => panel.close());
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
  panel.addEventListener("close", () => { if (opener && opener.focus) opener.focus(); });

  /* Print */
  document.querySelector(".print").addEventListener("click", () => window.print());
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    for (const part of closed) part.open = true;
  });
  window.addEventListener("afterprint", () => { for (const part of closed) part.open = false; });

  speak(language());
})();
