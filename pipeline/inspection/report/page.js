// The page: one panel per subject. A panel shows what follows from its row and its settings.

const WEIGHTING = ["tau", "alpha", "gamma", "max_weight"];
const ANNOUNCE_AFTER = 600; // ms: a screen reader speaks when the slider rests

const count = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const percent = new Intl.NumberFormat("en-US", {
  style: "percent",
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});
const weight = new Intl.NumberFormat("en-US", { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const tenth = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });
const setting = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 6 });

class Panel {
  constructor(subject, index, data, onChange) {
    this.subject = subject;
    this.labels = data.labels[index];
    this.commands = data.commands[index];
    this.charts = data.charts[index];
    this.onChange = onChange;
    this.views = new Map();
    this.element = clone("subject", index);
    this.form = this.element.querySelector("form");
    this.fill();
    this.listen();
    this.choose(0);
  }

  field(name) {
    return this.form.elements[name];
  }

  part(selector) {
    return this.element.querySelector(selector);
  }

  say(name, text) {
    const element = this.part(`[data-text="${name}"]`);
    if (element.textContent !== text) element.textContent = text;
  }

  /** Fills in what no slider changes. */
  fill() {
    const { subject } = this;
    this.say("path", subject.path);
    this.say("facts", facts(subject));
    if (subject.sample) {
      this.say("sample", sampleOf(subject.sample, subject.rows[0]));
      this.part("[data-text=sample]").hidden = false;
    }
    for (const only of this.element.querySelectorAll("[data-only]")) {
      only.hidden = only.dataset.only === "rows" ? subject.rows.length < 2 : !this.charts.plans;
    }
    this.field("row").replaceChildren(
      ...this.labels.map((label, value) => element("option", label, { value })),
    );
    fillTable(
      this.part("table.rows"),
      subject.rows.map((row, index) => [
        this.labels[index],
        datum(tailOf(row, "mass_before"), percent),
        datum(tailOf(row, "mass_after"), percent),
        datum(row.largest_weight, weight),
        datum(row.effective_sample_size, percent),
        datum(row.windows, count),
        datum(part(row.padding, row.tokens + row.padding), percent),
        datum(row.cut_documents, count),
      ]),
    );
  }

  listen() {
    this.field("row").addEventListener("change", (event) => this.choose(Number(event.target.value)));
    for (const name of WEIGHTING) {
      this.field(name).addEventListener("input", () => this.update());
      this.field(`${name}-slider`).addEventListener("input", (event) => {
        this.field(name).value = this.slid(name, event.target);
        this.update();
      });
    }
    this.form.addEventListener("reset", (event) => {
      event.preventDefault();
      this.choose(this.index);
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.part("[name=copy]").addEventListener("click", () => this.copy());
  }

  /** The value that a slider's position means, as the text of the field beside it. */
  slid(name, slider) {
    if (name === "tau") return String(this.row.buckets[slider.valueAsNumber].low);
    return name === "max_weight" && slider.value === slider.max ? "" : slider.value;
  }

  /** Takes a row and its own settings. */
  choose(index) {
    this.index = index;
    this.row = this.subject.rows[index];
    const { settings, buckets } = this.row;
    this.field("row").value = String(index);
    this.field("tau").max = settings.window - 1;
    this.field("tau-slider").max = buckets.length - 1;
    this.field("alpha-slider").max = Math.max(1, 2 * settings.alpha);
    this.field("gamma-slider").max = Math.max(2, settings.gamma);
    this.field("max_weight-slider").max = Math.max(3, Math.ceil(2 * (settings.max_weight ?? 1)));
    for (const name of WEIGHTING) this.field(name).value = settings[name] ?? "";
    [...this.part("table.rows tbody").rows].forEach((row, at) => {
      row.classList.toggle("chosen", at === index);
    });
    this.update();
  }

  settings() {
    const typed = (name) => this.field(name).valueAsNumber;
    const unlimited = this.field("max_weight").value === "" &&
      !this.field("max_weight").validity.badInput;
    return {
      ...this.row.settings,
      tau: typed("tau"),
      alpha: typed("alpha"),
      gamma: typed("gamma"),
      max_weight: unlimited ? null : typed("max_weight"),
    };
  }

  update() {
    const settings = this.settings();
    const trouble = objection(settings, settings.window);
    this.showTrouble(trouble);
    this.placeSliders(settings);
    if (trouble === null) {
      this.state = { settings, row: this.row, ...reweighted(this.row, settings) };
      this.show();
    }
    this.onChange();
  }

  showTrouble(trouble) {
    this.element.classList.toggle("stale", trouble !== null);
    this.part("[data-text=trouble]").hidden = trouble === null;
    this.say("trouble", trouble === null ? "" : `${capital(trouble)}.`);
    for (const name of WEIGHTING) {
      const wrong = trouble !== null && trouble.startsWith(name.replace("_", " "));
      this.field(name).setAttribute("aria-invalid", String(wrong));
    }
    this.part("[name=copy]").disabled = trouble !== null;
  }

  /** Sliders follow what was typed; their texts say the exact value. */
  placeSliders({ tau, alpha, gamma, max_weight: ceiling }) {
    const lows = this.row.buckets.map((bucket) => bucket.low);
    const at = lows.findIndex((low) => low >= tau);
    this.place("tau", at < 0 ? lows.length - 1 : at, plural(tau, "token"));
    this.place("alpha", alpha, setting.format(alpha));
    this.place("gamma", gamma, setting.format(gamma));
    const most = this.field("max_weight-slider").max;
    this.place("max_weight", ceiling ?? most, ceiling === null ? "none" : setting.format(ceiling));
  }

  place(name, value, text) {
    const slider = this.field(`${name}-slider`);
    if (!Number.isFinite(Number(value))) return;
    if (document.activeElement !== slider) slider.value = value;
    slider.setAttribute("aria-valuetext", text);
  }

  show() {
    const { state } = this;
    const answer = answerOf(state);
    this.say("answer", answer);
    clearTimeout(this.later);
    this.later = setTimeout(() => this.say("announcement", answer), ANNOUNCE_AFTER);
    showFigures(this.part(".figures"), figuresOf(state));
    showBuckets(this.part("table.buckets"), state);
    showSources(this.part("table.sources"), state);
    showCommand(this.part("code"), this.command());
    this.describe();
    this.draw("exposure", state.buckets);
    this.draw("weights", state.buckets);
    this.draw("sources", state.sources);
    if (this.charts.plans) this.draw("plans", this.charts.plans.data.values);
  }

  describe() {
    const { state } = this;
    const texts = {
      exposure: `Bar chart. ${answerOf(state)} The table Buckets has every bar.`,
      weights:
        `Chart of the weight of each bucket, from 1 to ${weight.format(state.largest_weight)}. ` +
        "The table Buckets has every weight.",
      sources:
        "Bar chart of each source's share of the total loss weight before and after weighting, " +
        "and of its share of the tail. " +
        "The table below it has every share.",
      plans:
        "Line chart of the share of targets with at least a given effective context, one line " +
        "per window and packing. The table below it compares them.",
    };
    for (const [name, text] of Object.entries(texts)) {
      this.part(`[data-chart="${name}"]`).setAttribute("aria-label", text);
    }
  }

  /** Draws a chart the first time, and gives it new data from then on. */
  async draw(name, values) {
    const spec = this.charts[name];
    if (!this.views.has(name)) {
      const place = this.part(`[data-chart="${name}"]`);
      this.views.set(name, embed(place, { ...spec, data: { ...spec.data, values } }));
      return;
    }
    const view = await this.views.get(name);
    await view.data(spec.data.name, values).runAsync();
  }

  command() {
    const { settings, row } = this.state;
    if (WEIGHTING.every((name) => settings[name] === row.settings[name])) return row.command;
    const flags = [...WEIGHTING, "epsilon"]
      .filter((name) => settings[name] !== null)
      .map((name) => `--${name.replace("_", "-")} ${settings[name]}`);
    // A shard set keeps what no flag changes.
    const unlimited = this.subject.kind === "shard set" && settings.max_weight === null;
    if (unlimited) flags.push("--max-weight inf");
    return [this.commands[this.index], ...flags, "--out OUT"].join(" ");
  }

  async copy() {
    const code = this.part("code");
    this.say("copied", "");
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy");
    }
    const button = this.part("[name=copy]");
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    this.say("copied", done ? "The command was copied." : "The command is selected.");
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }
}

async function embed(place, spec) {
  const inside = element("div", ""); // Vega gives it a role of its own
  place.append(inside);
  const { view } = await window.vegaEmbed(inside, spec, {
    renderer: "svg",
    actions: false,
    ast: true, // expressions are interpreted: the page's policy forbids turning text into code
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  });
  return view;
}

function facts(subject) {
  return [
    capital(subject.kind),
    plural(subject.documents, "document"),
    plural(subject.tokens, "token"),
    `longest document: ${plural(subject.longest_document, "token")}`,
  ].join(" · ");
}

function sampleOf({ fraction, documents, tokens, asked, read, tokenized }, { intervals }) {
  const text = [asked, read, tokenized].map((part) => percent.format(part));
  return (
    `All figures are estimates from a sample of ${percent.format(fraction)}: ` +
    `${plural(documents, "document")}, ${plural(tokens, "token")}. ` +
    (asked === undefined
      ? ""
      : `${text[0]} of the text was asked for, ${text[1]} was read and ${text[2]} was tokenized. `) +
    (intervals?.reason ? `There are no intervals: ${intervals.reason}.` : "Ranges are 95% intervals.")
  );
}

function answerOf({ settings, row, ...state }) {
  const tau = count.format(settings.tau);
  const begin = plural(state.buckets.find((bucket) => bucket.in_tail)?.low ?? 0, "token");
  if (state.tail_empty) {
    return (
      `The tail is empty: no bucket that begins at ${tau} tokens of effective context or later has targets. The ` +
      `largest effective context is ${count.format(row.largest_context)}. Every weight is 1.`
    );
  }
  return (
    `The ${percent.format(state.tail_before)} of targets that see ${begin} or more of their own ` +
    `document get ${percent.format(state.tail_after)} of the total loss weight. The largest weight is ` +
    `${weight.format(state.largest_weight)}.`
  );
}

/** Each figure's label, value, format, and remark. */
function figuresOf({ settings, row, ...state }) {
  const segments = part(row.segments, row.windows);
  const padding = part(row.padding, row.tokens + row.padding);
  const reaching = percent.format(part(state.tail_windows, row.windows));
  const windows = row.intervals?.windows;
  const range = windows ? `${windows.map(count.format).join(" to ")}; ` : "";
  return [
    ["Tail's loss weight", state.tail_after, percent, `before: ${percent.format(state.tail_before)}`],
    ["Effective sample size", state.effective_sample_size, percent, "of the targets"],
    ["Largest weight", state.largest_weight, weight, ""],
    ["Mean weight", state.mean_weight, weight, ""],
    ["Mean extra weight in the tail", state.budget, setting,
      state.tail_empty ? "the tail is empty" : `asked for: ${setting.format(settings.alpha)}`],
    ["Targets", row.targets, count, `of ${plural(row.tokens, "token")}`],
    ["Windows", row.windows, count, `${range}${reaching} with a target in the tail`],
    ["Segments per window", segments, tenth, ""],
    ["Padding", padding, percent, plural(row.padding, "token")],
    ["Documents split", row.cut_documents, count, `of ${count.format(row.documents)}`],
  ];
}

function showFigures(list, figures) {
  list.replaceChildren(
    ...figures.map(([label, value, format, remark]) => {
      const detail = element("dd", "");
      detail.append(datum(value, format));
      if (remark) detail.append(element("small", remark));
      const group = element("div", "");
      group.append(element("dt", label), detail);
      return group;
    }),
  );
}

function showBuckets(table, { buckets, row }) {
  fillTable(
    table,
    buckets.map((bucket, at) => [
      bucketHead(bucket),
      withInterval(datum(bucket.mass_before, percent), row.intervals?.shares[at]),
      datum(bucket.mass_after, percent),
      datum(bucket.weight, weight),
      datum(bucket.targets, count),
      datum(bucket.cumulative_share, percent),
    ]),
  );
  buckets.forEach((bucket, at) => table.tBodies[0].rows[at].classList.toggle("tail", bucket.in_tail));
}

function bucketHead({ low, high, in_tail: inTail }) {
  const head = document.createDocumentFragment();
  head.append(`${count.format(low)}–${count.format(high)}`);
  if (inTail) head.append(" ", element("small", "tail"));
  return head;
}

/** An estimate with its interval, which is null where the sample cannot tell. */
function withInterval(shown, interval) {
  if (interval === undefined) return shown;
  const both = document.createDocumentFragment();
  const range = interval?.map((end) => percent.format(end)).join(" to ");
  both.append(shown, element("small", range ?? "no interval"));
  return both;
}

/** A command line that breaks between its flags. */
function showCommand(code, command) {
  const words = command.split(/(?<= )(?=--)/);
  code.replaceChildren(...words.map((text) => element("span", text)));
}

function showSources(table, { sources }) {
  fillTable(
    table,
    sources.map((source) => [
      source.name,
      datum(source.mass_before, percent),
      datum(source.mass_after, percent),
      datum(source.tail_share, percent),
      datum(source.mean_weight, weight),
      datum(source.tokens, count),
    ]),
  );
}

/** What differs between several panels, and the figures of all, one column per panel. */
function showDifferences(section, panels) {
  const head = section.querySelector("thead tr");
  head.replaceChildren(
    element("th", "What", { scope: "col" }),
    ...panels.map((panel) => element("th", panel.subject.path, { scope: "col" })),
  );
  const facts = panels.map((panel) => flat(described(panel)));
  const names = [...new Set(facts.flatMap((each) => [...each.keys()]))];
  const settings = names.map((name) => [name, ...facts.map((each) => each.get(name) ?? "–")]);
  const all = panels.map((panel) => figuresOf(panel.state));
  const figures = all[0].map(([label], at) => [
    label,
    ...all.map((each) => textOf(...each[at].slice(1, 3))),
  ]);
  const differs = (row) => row.slice(1).some((text) => text !== row[1]);
  fillTable(
    section.querySelector("table"),
    [...settings.filter(differs), ...figures].map(([name, ...texts]) => [
      differs([name, ...texts]) ? `${name} ≠` : name,
      ...texts,
    ]),
  );
}

function described({ subject, state }) {
  const { kind, tokenizer, tokenize } = subject;
  const source = Object.fromEntries(
    subject.sources.map(({ name, documents, tokens }) => [name, { documents, tokens }]),
  );
  return { kind, ...state.settings, tokenizer, tokenize, source };
}

/** Nested settings by their full names, with their values as texts. */
function flat(value, name = "", found = new Map()) {
  if (value === null || typeof value !== "object") {
    found.set(name, Number.isInteger(value) ? count.format(value) : String(value ?? "none"));
  } else {
    for (const [key, inner] of Object.entries(value)) {
      flat(inner, `${name} ${key.replaceAll("_", " ")}`.trim(), found);
    }
  }
  return found;
}

function tailOf(row, mass) {
  return sum(row.buckets, (bucket) => (bucket.in_tail ? bucket[mass] : 0));
}

/** A count with its noun, which agrees with it. */
function plural(number, noun) {
  return `${count.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function part(some, whole) {
  return whole > 0 ? some / whole : 0;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A number as a person reads it, with all its digits for a program; null is a dash. */
function datum(value, format) {
  return element("data", textOf(value, format), { value: value ?? "" });
}

function textOf(value, format) {
  return value === null ? "–" : format.format(value);
}

/** Rows of texts and nodes; the first of each row is its head. */
function fillTable(table, rows) {
  table.tBodies[0].replaceChildren(
    ...rows.map(([head, ...cells]) => {
      const row = element("tr", "");
      const name = element("th", "", { scope: "row" });
      name.append(head);
      name.title = name.textContent;
      row.append(name);
      for (const cell of cells) {
        const made = element("td", "");
        made.append(cell);
        row.append(made);
      }
      return row;
    }),
  );
}

/** A copy of a template; its ids, and the attributes that refer to them, end in its number. */
function clone(template, number) {
  const copy = document.getElementById(template).content.firstElementChild.cloneNode(true);
  for (const name of ["id", "for", "aria-labelledby", "aria-describedby"]) {
    for (const owner of [copy, ...copy.querySelectorAll(`[${name}]`)]) {
      const value = owner.getAttribute(name);
      const numbered = value?.split(" ").map((id) => `${id}-${number}`).join(" ");
      if (numbered) owner.setAttribute(name, numbered);
    }
  }
  return copy;
}

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { subjects } = data.inspection;
  const panels = [];
  const differences = document.getElementById("differences");
  const compare = () => {
    if (panels.length === subjects.length && panels.length > 1) showDifferences(differences, panels);
  };
  const place = document.getElementById("subjects");
  subjects.forEach((subject, index) => {
    const panel = new Panel(subject, index, data, compare);
    panels.push(panel);
    place.append(panel.element);
  });
  place.classList.toggle("several", subjects.length > 1);
  differences.hidden = subjects.length < 2;
  compare();
  document.title = `${subjects.map((subject) => subject.path).join(", ")} – loss weight by effective context`;
}

start();
