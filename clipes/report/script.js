// Draws the page from window.report and window.rows. All text goes in as text nodes: nothing of a run becomes markup.
"use strict";

const report = window.report;
// A row's places, as clipes/report/build.py writes them.
const [NUMBER, ID, STATUS, SHARES, WIDTH, HEIGHT, SECONDS, CONFIDENCE, AREA, IGNORED, IOU, REASON, TRUTH, LABELS, TAGS, LEAST_TAG] = Array(16).keys();
for (const row of window.rows) row[LEAST_TAG] = row[TAGS]?.length ? Math.min(...row[TAGS]) : null;
const STATUSES = ["ok", "skipped", "failed", "unreadable"];
const [FIRST, BATCH] = [24, 60]; // images before and after "Show more"
const FIRST_CLASSES = 20;
const LAYERS = { mask: "png", truth: "png", confidence: "jpg" };

const $ = (id) => document.getElementById(id);
const hasTruth = report.truth !== null;
const hasScores = report.panels.includes("confidence"); // the saved ones, where they vary
const idsShown = new Set(window.rows.flatMap((row) => row[SHARES].filter((id, place) => place % 2 === 0 && typeof id === "number")));

function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const bdi = (text) => el("bdi", {}, text); // a name's right-to-left marks end with it
const whole = (value) => value.toLocaleString("en");
const figure = (value) => (value === null ? "–" : value.toFixed(3));
const percent = (share) => (share === 0 ? "0 %" : share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);
const plural = (count, one) => `${whole(count)} ${one}${count === 1 ? "" : "s"}`;
const className = (id) => (typeof id === "string" ? id : report.names[id]);
const IGNORE = "ignored";
const LEAST = `${100 * report.least_foreground} %`;
const colour = (id) => `#${report.colours[id === IGNORE ? 255 : id > 254 ? (id % 254) + 1 : id]}`;

function duration(seconds) {
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function rate(value) {
  if (value === null) return "–";
  return value >= 1 ? `${value.toFixed(value < 10 ? 1 : 0)} images/s` : `${(60 * value).toFixed(1)} images/min`;
}

function swatch(id) {
  const square = el("i", { className: "swatch", "aria-hidden": "true" });
  square.style.background = colour(id);
  return square;
}

function table(heads, rows, caption) {
  const head = heads.map(([text, number]) => el("th", { scope: "col", className: number ? "number" : "" }, text));
  const body = rows.map((cells) =>
    el("tr", {}, ...cells.map((cell, place) => el("td", { className: heads[place][1] ? "number" : "" }, cell))));
  const title = caption ? [el("caption", {}, caption)] : [];
  return el("table", {}, ...title, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
}

// --- above the images

function drawHead() {
  const counts = report.counts;
  $("run").append(bdi(report.run));
  document.title = `${report.run} · clipes report`;
  const facts = new Map(report.facts);
  const parts = [["model ", facts.get("model")], ["begun ", report.started[0]], ["on ", report.machines.join(", ")]];
  const told = parts.filter(([, value]) => value).flatMap(([what, value]) => [" · ", what, bdi(value)]);
  $("about").append(...told.slice(1));
  $("made").append(`Made by ${report.made}. Nothing on this page is loaded from elsewhere.`);
  const tiles = [["with a mask", whole(counts.ok)], ["failed", whole(counts.failed), counts.failed]];
  if (counts.skipped) tiles.push(["skipped", whole(counts.skipped)]);
  if (counts.left) tiles.push(["left to do", whole(counts.left), true]);
  if (report.unreadable) tiles.push(["unreadable now", whole(report.unreadable), true]);
  if (hasTruth) tiles.push(["mean IoU", figure(report.truth.miou)], ["boundary IoU", figure(report.truth.boundary_iou)]);
  if (report.tagged) tiles.push(["with labels by CLIP", whole(report.tagged)]);
  if (report.nothing) tiles.push(["of these nothing found", whole(report.nothing)]);
  if (report.confidence !== null) tiles.push(["mean confidence", figure(report.confidence)]);
  if (report.pixels) tiles.push(["pixels ignored", percent(report.ignored / report.pixels)]);
  const [speed, unit] = rate(counts.rate).split(" ");
  tiles.push(["time at work", duration(report.clock.seconds)], [unit ?? "speed", speed]);
  for (const [name, value, alarm] of tiles) {
    $("tiles").append(el("div", { className: alarm ? "alarm" : "" }, el("dt", {}, name), el("dd", {}, value)));
  }
  const notes = [];
  if (counts.left === null) notes.push("No worker was told how many images there are, so what is left is unknown.");
  if (report.others) notes.push(`${plural(report.others, "record")} of other settings ${report.others === 1 ? "is" : "are"} left out.`);
  if (report.lost) notes.push(`${plural(report.lost, "image")} with a mask show${report.lost === 1 ? "s" : ""} no pixel of one of the labels.`);
  if (report.little) notes.push(`${plural(report.little, "image")} with a mask show${report.little === 1 ? "s" : ""} classes at less than ${LEAST} of the pixels.`);
  if (report.tagged) notes.push("CLIP found the labels of images that had none; each has its score, in [0, 1].");
  if (hasTruth) notes.push(truthNote());
  if (report.confidence !== null) notes.push("The confidence of an image is the mean score before the CRF, over the pixels of its classes.");
  $("note").append(notes.join(" "));
}

function truthNote() {
  const truth = report.truth;
  const parts = [`The truth judges ${plural(truth.judged, "mask")}: pixel accuracy ${figure(truth.pixel_accuracy)}`];
  if (truth.ignored_share) {
    parts.push(`, ${percent(truth.ignored_share)} of the pixels ignored and counted as missed; on the rest, mean IoU ${figure(truth.miou_decided)}`);
  }
  if (report.missing) parts.push(`; ${plural(report.missing, "truth file")} without a mask`);
  if (truth.unjudged) parts.push(`; ${plural(truth.unjudged, "image")} whose truth could not be used`);
  return `${parts.join("")}.`;
}

// Bars that fill their box, with labels around them; the same numbers as a table below.
function chart(title, about, values, range, heads, ends, unit, { marks = [], least = 0 } = {}) {
  if (values.filter((value) => value > 0).length < 2) return; // one bar says nothing
  const top = Math.max(...values);
  const scale = least ? (value) => Math.max(Math.log(value / least) / Math.log(top / least), 0) : (value) => value / top;
  const bars = values.map((value, place) => {
    const height = top && 100 * scale(value);
    const tip = svg("title", {}, `${range(place)}: ${unit(value)}`);
    return svg("rect", { x: place + 0.06, width: 0.88, y: 100 - height, height }, tip);
  });
  for (const at of marks) bars.push(svg("line", { x1: at * values.length, x2: at * values.length, y1: 0, y2: 100 }));
  const box = { viewBox: `0 0 ${values.length} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}. ${about}` };
  const plot = svg("svg", box, ...bars);
  const rows = values.map((value, place) => [range(place), unit(value)]);
  $("charts").append(el("figure", {},
    el("figcaption", {}, el("h2", {}, title), el("p", { className: "quiet" }, about)),
    el("p", { className: "peak" }, unit(top)), plot,
    el("p", { className: "axis" }, ...ends.map((end) => el("span", {}, end))),
    el("details", {}, el("summary", {}, "As a table"), table(heads.map((text, place) => [text, place === 1]), rows))));
}

function drawCharts() {
  const share = (total) => (value) => percent(total ? value / total : 0);
  if (hasTruth && report.truth.judged) {
    const values = report.truth.mious, step = 1 / values.length;
    const range = (place) => `${(place * step).toFixed(2)} to ${((place + 1) * step).toFixed(2)}`;
    const about = "How many images have which mean IoU, over the classes that occur in them.";
    chart("IoU of the images", about, values, range, ["mean IoU", "images"], ["0", "0.5", "1"], (value) => plural(value, "image"));
  }
  if (report.confidence !== null) {
    const values = report.confidences, step = 1 / values.length;
    const range = (place) => `${(place * step).toFixed(2)} to ${((place + 1) * step).toFixed(2)}`;
    const about = "How many images have which confidence: the mean score before the CRF over the pixels of their classes.";
    chart("Confidence of the images", about, values, range, ["confidence", "images"], ["0", "0.5", "1"], (value) => plural(value, "image"));
  }
  if (hasScores) {
    const values = Array.from({ length: 32 }, (_, place) => report.levels.slice(8 * place, 8 * place + 8).reduce((a, b) => a + b));
    const range = (place) => `${(8 * place / 256).toFixed(2)} to ${((8 * place + 8) / 256).toFixed(2)}`;
    const all = values.reduce((a, b) => a + b);
    const about = "The share of the pixels by the saved score of the class that won them; the height is logarithmic, from 0.01 %.";
    chart("Saved scores", about, values, range, ["confidence", "pixels"], ["0", "0.5", "1"], share(all), { least: all / 10000 });
  }
  const clock = report.clock, bins = clock.counts.length;
  if (bins && clock.seconds) {
    const step = clock.seconds / bins;
    const range = (place) => `${duration(place * step)} to ${duration((place + 1) * step)}`;
    const paused = clock.pause_count
      ? ` Stopped ${clock.pause_count === 1 ? "once" : `${clock.pause_count} times`}, for ${duration(clock.paused)} in all: left out, and marked.` : "";
    const about = `Images a second, over the time at work.${paused}`;
    const marks = clock.pauses.map(([after]) => after / clock.seconds);
    chart("Speed", about, clock.counts.map((count) => count / step), range, ["time", "speed"], ["0", duration(clock.seconds)], rate, { marks });
  }
  $("figures").hidden = !$("charts").children.length;
}

function meter(value, most) {
  const bar = el("i", { className: "meter", "aria-hidden": "true" }, el("i"));
  bar.firstChild.style.width = `${most ? (100 * value) / most : 0}%`;
  return bar;
}

const value = (text) => el("span", { className: "value" }, text); // of one width, so that the bars beside it align

function drawClasses() {
  const heads = [["class"], ["labelled", true], ["shown", true], ["pixels", true]];
  if (hasTruth) heads.push(["IoU", true], ["boundary IoU", true]);
  const widest = Math.max(...report.classes.slice(1).map((counts) => counts[2]));
  const occurs = (id) => report.classes[id].slice(0, 3).some((count) => count > 0);
  const ids = [...report.classes.keys()].filter((id) => id === 0 || report.classes[id][2] > 0);
  const without = [...report.classes.keys()].filter((id) => id > 0 && report.classes[id][2] === 0);
  const row = (id) => {
    const [labelled, shown, pixels, iou, boundary] = report.classes[id];
    const name = idsShown.has(id) ? el("button", { type: "button", className: "link" }, bdi(className(id))) : bdi(className(id));
    if (idsShown.has(id)) name.addEventListener("click", () => filter(id, ""));
    const share = percent(report.pixels ? pixels / report.pixels : 0);
    const cells = [el("span", { className: "name" }, swatch(id), name), id ? whole(labelled) : "", whole(shown), el("span", {}, id ? meter(pixels, widest) : "", value(share))];
    if (hasTruth) cells.push(el("span", {}, iou === null ? "" : meter(iou, 1), value(figure(iou))), figure(boundary));
    return cells;
  };
  const about = "How many images with a mask have the label, how many masks show it, its share of all pixels. A class opens its images.";
  const wide = (some, told) => el("div", { className: "wide" }, table(heads, some.map(row), told));
  const shown = el("div", {}, wide(ids.slice(0, FIRST_CLASSES + 1), about));
  $("classes").append(shown);
  if (ids.length > FIRST_CLASSES + 1) {
    const all = el("button", { type: "button" }, `Show all ${whole(ids.length - 1)} classes with pixels`);
    all.addEventListener("click", () => { shown.replaceChildren(wide(ids, about)); all.remove(); });
    $("classes").append(all);
  }
  if (!without.length) return;
  const lost = without.filter(occurs).length;
  const told = `${plural(without.length, "class").replace("classs", "classes")} without a pixel${lost ? `, ${whole(lost)} of them labels of images` : ""}`;
  $("classes").append(el("details", {}, el("summary", {}, told), wide([...without].sort((a, b) => occurs(b) - occurs(a)), "")));
}

function filter(id, status) {
  $("name").value = "";
  $("class").value = id;
  $("status").value = status;
  select();
  $("images").scrollIntoView();
  $("images").focus({ preventScroll: true });
}

function drawReasons() {
  $("reasons-section").hidden = !report.reasons.length;
  const rows = report.reasons.map(([status, text, count, first]) => {
    const code = STATUSES.indexOf(status);
    const button = el("button", { type: "button", className: "link" }, badge(code));
    button.addEventListener("click", () => filter("", code));
    return [button, whole(count), bdi(text), bdi(first)];
  });
  const told = "The commonest first, told as of the first image. A status opens its images.";
  $("reasons").append(el("div", { className: "wide" }, table([["status"], ["images", true], ["reason"], ["first image"]], rows, told)));
}

const badge = (status) => el("span", { className: `badge ${STATUSES[status]}` }, STATUSES[status]);

// --- the images

const folded = (text) => text.normalize().toLowerCase(); // macOS has letters and their accents apart
const names = window.rows.map((row) => folded(row[ID]));
const collator = new Intl.Collator("en", { numeric: true });
const rank = new Map(window.rows.map((_, place) => place).sort((a, b) => collator.compare(names[a], names[b])).map((place, order) => [window.rows[place], order]));
const SORTS = [["name", null, 1], ...[
  ["IoU, worst first", IOU, 1], ["IoU, best first", IOU, -1],
  ["confidence, lowest first", CONFIDENCE, 1], ["confidence, highest first", CONFIDENCE, -1],
  ["area of the classes, smallest first", AREA, 1], ["area of the classes, largest first", AREA, -1],
  ["score of a label, lowest first", LEAST_TAG, 1],
  ["ignored pixels, most first", IGNORED, -1], ["seconds, slowest first", SECONDS, -1],
].filter(([, place]) => window.rows.some((row) => row[place] !== null))];

let found = []; // the rows that the filters let through, in order
let drawn = 0; // how many of them have a card
let endless = false; // whether more are drawn as one scrolls
let open = -1; // the place of the one in the large view

const isLost = (row) => row[STATUS] === 0 && row[SHARES].some((share, place) => place % 2 && share === 0);
const isLittle = (row) => row[STATUS] === 0 && row[LABELS] > 0 && row[AREA] < report.least_foreground;
const isNothing = (row) => row[TAGS]?.length === 0;
const TESTS = { lost: isLost, little: isLittle, nothing: isNothing };
const hasClass = (row, id) => row[SHARES].some((share, place) => place % 2 === 0 && share === id);
const compare = (a, b) => (a === null) - (b === null) || 0;

function select() {
  const text = folded($("name").value), id = Number($("class").value), status = $("status").value;
  const [, place, sign] = SORTS[$("sort").value];
  found = window.rows.filter((row, index) =>
    names[index].includes(text) && (!id || hasClass(row, id))
    && (status === "" || (TESTS[status]?.(row) ?? row[STATUS] === Number(status))));
  found.sort((a, b) => {
    if (place === null) return rank.get(a) - rank.get(b);
    return compare(a[place], b[place]) || sign * (a[place] - b[place]) || rank.get(a) - rank.get(b);
  });
  const all = window.rows.length;
  $("count").textContent = found.length === all ? plural(all, "image") : `${whole(found.length)} of ${plural(all, "image")}`;
  $("cards").replaceChildren();
  drawn = 0;
  addCards();
}

function addCards() {
  const next = found.slice(drawn, drawn + (endless ? BATCH : FIRST));
  $("cards").append(...next.map((row, place) => card(row, drawn + place)));
  drawn += next.length;
  const left = found.length - drawn;
  $("more").replaceChildren(found.length === 0 ? "No image fits." : left === 0 ? "" : endless ? "More as you scroll." : moreButton(left));
  nearEnd.unobserve($("more")); // told anew where it is: still near is no news to an observer
  nearEnd.observe($("more"));
}

function moreButton(left) {
  const button = el("button", { type: "button" }, `Show ${whole(left)} more`);
  button.addEventListener("click", () => {
    const next = drawn;
    endless = true;
    addCards();
    $("cards").children[next].firstChild.focus({ preventScroll: true }); // the button is gone
  });
  return button;
}

const nearEnd = new IntersectionObserver((seen) => { if (endless && seen.at(-1).isIntersecting && drawn < found.length) addCards(); }, { rootMargin: "1200px" });

const file = (row, kind, suffix) => `pictures/${Math.floor(row[NUMBER] / 1000)}/${row[NUMBER]}-${kind}.${suffix}`;

function panels(row) {
  const box = el("span", { className: "panels" });
  box.style.setProperty("--ratio", Math.min(2, Math.max(0.5, row[WIDTH] / row[HEIGHT])));
  report.panels.forEach((panel, place) => {
    const image = el("img", { className: panel, alt: "", loading: "lazy", decoding: "async", src: file(row, "strip", "jpg") });
    image.style.objectPosition = `${(100 * place) / (report.panels.length - 1)}% 0`;
    box.append(image);
  });
  return box;
}

function chips(row, tag) {
  const [items, shares] = [[], row[SHARES]];
  for (let place = 0; place < shares.length; place += 2) {
    const [id, share] = [shares[place], shares[place + 1]];
    const score = row[TAGS] && place / 2 < row[LABELS] ? [`score ${row[TAGS][place / 2].toFixed(2)}`] : [];
    const area = share < 0 ? [] : [share === 0 ? "none" : percent(share / 1e6)];
    const text = [...score, ...area].map((part) => ` ${part}`).join(",");
    const square = typeof id === "number" ? [swatch(id)] : [];
    items.push(el(tag, { className: share === 0 ? "chip lost" : "chip" }, ...square, bdi(className(id)), el("small", {}, text)));
  }
  return items;
}

// Why the mask does not fit the labels of its image; nothing where it does.
function misfits(row) {
  const [found, shares] = [[], row[SHARES]];
  const missing = shares.filter((_, place) => place % 2 === 0 && shares[place + 1] === 0).map(className);
  if (isLost(row)) found.push(`no pixel of ${missing.join(", ")}`);
  if (isLittle(row)) found.push(`${percent(row[AREA])} of the pixels show a class`);
  return found.join("; ");
}

function card(row, place) {
  const figures = isNothing(row) ? ["nothing found"] : [];
  if (row[IOU] !== null) figures.push(`IoU ${figure(row[IOU])}`);
  if (row[CONFIDENCE] !== null) figures.push(`confidence ${figure(row[CONFIDENCE])}`);
  const ok = row[STATUS] === 0;
  const body = ok ? panels(row) : el("span", { className: "why" }, badge(row[STATUS]), bdi(row[REASON]));
  const line = el("span", { className: "line" }, el("b", {}, bdi(row[ID])), el("small", {}, figures.join(" · ")));
  const note = misfits(row) ? [el("span", { className: "misfit" }, bdi(misfits(row)))] : [];
  const button = el("button", { type: "button", className: "card" }, body, line, el("span", { className: "chips" }, ...chips(row, "span")), ...note);
  button.addEventListener("click", () => show(place));
  return el("li", {}, button);
}

// --- the large view

let layer = "mask"; // what lies over the picture; kept from one image to the next

function show(place) {
  open = place;
  const row = found[place], ok = row[STATUS] === 0;
  $("large-title").replaceChildren(bdi(row[ID]));
  $("stage").hidden = $("tools").hidden = !ok;
  $("stage").replaceChildren();
  if (ok) drawStage(row);
  const why = [row[REASON], misfits(row)].filter(Boolean).join("; ");
  $("reason").hidden = !why;
  $("reason").replaceChildren(...(ok ? [] : [badge(row[STATUS]), " "]), bdi(why));
  const ignored = row[IGNORED] ? [el("li", { className: "chip" }, swatch(IGNORE), IGNORE, el("small", {}, ` ${percent(row[IGNORED])}`))] : [];
  $("labels").replaceChildren(...chips(row, "li"), ...ignored);
  const facts = [["size", row[WIDTH] && `${row[WIDTH]} × ${row[HEIGHT]}`], ["IoU", row[IOU] !== null && figure(row[IOU])],
    ["confidence", row[CONFIDENCE] !== null && figure(row[CONFIDENCE])], ["of a class", row[AREA] !== null && percent(row[AREA])], ["took", row[SECONDS] !== null && duration(row[SECONDS])]];
  $("facts").replaceChildren(...facts.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  $("position").textContent = `${whole(place + 1)} of ${whole(found.length)}`;
  $("previous").disabled = place === 0;
  $("next").disabled = place === found.length - 1;
  if (!$("large").open) $("large").showModal();
  for (const near of [found[place + 1], found[place - 1]]) {
    if (near?.[STATUS] === 0) new Image().src = file(near, "large", "jpg"); // there at once when it is stepped to
  }
}

function drawStage(row) {
  const box = el("div", { className: row[WIDTH] < 400 && row[HEIGHT] < 400 ? "frame small" : "frame" });
  box.style.setProperty("--ratio", row[WIDTH] / row[HEIGHT]);
  const there = Object.keys(LAYERS).filter((name) => name === "mask" || (name === "truth" ? row[TRUTH] : hasScores));
  const shown = there.includes(layer) ? layer : "mask";
  box.append(el("img", { src: file(row, "large", "jpg"), alt: `Picture ${row[ID]}` }));
  for (const name of there) box.append(el("img", { className: "layer", id: `layer-${name}`, src: file(row, name, LAYERS[name]), alt: `Its ${name}` }));
  $("stage").append(box);
  $("layers").replaceChildren(...there.map((name) => {
    const button = el("button", { type: "button", "aria-pressed": String(name === shown) }, name);
    button.addEventListener("click", () => setLayer(name));
    return button;
  }));
  blend(shown);
}

function setLayer(name) {
  const button = [...$("layers").children].find((child) => child.textContent === name);
  if (!button || $("tools").hidden) return;
  layer = name;
  for (const other of $("layers").children) other.setAttribute("aria-pressed", String(other === button));
  blend(name);
}

function blend(shown) {
  for (const image of document.querySelectorAll(".layer")) {
    image.hidden = image.id !== `layer-${shown}`;
    image.style.opacity = $("blend").value / 100;
  }
}

function step(by) {
  const place = open + by;
  if (place < 0 || place >= found.length) return;
  while (place >= drawn) addCards();
  show(place);
}

function changeBlend(by) {
  $("blend").value = Number($("blend").value) + by;
  const pressed = document.querySelector("#layers [aria-pressed=true]");
  if (pressed) blend(pressed.textContent);
}

const KEYS = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => changeBlend(10), "=": () => changeBlend(10), "-": () => changeBlend(-10),
  m: () => setLayer("mask"), t: () => setLayer("truth"), c: () => setLayer("confidence"),
};

function listen() {
  $("large").addEventListener("keydown", (event) => {
    const sliding = event.target === $("blend") && event.key.startsWith("Arrow");
    if (sliding || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  $("large").addEventListener("close", () => $("cards").children[open]?.firstChild.focus());
  $("large").addEventListener("click", (event) => {
    const box = $("large").getBoundingClientRect(), { clientX: x, clientY: y } = event;
    const beside = x < box.left || x > box.right || y < box.top || y > box.bottom;
    if (event.target === $("large") && beside) $("large").close();
  });
  $("close").addEventListener("click", () => $("large").close());
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("blend").addEventListener("input", () => changeBlend(0));
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("name").addEventListener("input", select);
  for (const id of ["class", "status", "sort"]) $(id).addEventListener("change", select);
  $("view").addEventListener("change", setView);
  $("save").addEventListener("click", saveList);
}

function saveList() {
  const cell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const labels = (row) => row[SHARES].filter((_, place) => place % 2 === 0).slice(0, row[LABELS]).map(className).join(";");
  const lines = found.map((row) => [row[ID], labels(row), STATUSES[row[STATUS]]].map(cell).join(","));
  const file = new Blob([["image,labels,status", ...lines, ""].join("\n")], { type: "text/csv" });
  const link = el("a", { href: URL.createObjectURL(file), download: "labels.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
}

function setView() {
  $("cards").dataset.view = $("view").value;
  $("cards").style.setProperty("--columns", $("view").value !== "all" ? 1 : report.panels.length === 3 ? 3 : 2);
  $("order").hidden = $("view").value !== "all";
}

function drawFilters() {
  const option = (value, text) => el("option", { value }, text);
  const ids = [...idsShown].sort((a, b) => collator.compare(className(a), className(b)));
  $("class").append(option("", "every class"), ...ids.map((id) => option(id, className(id))));
  $("status").append(option("", "every status"));
  STATUSES.forEach((name, status) => {
    const count = window.rows.filter((row) => row[STATUS] === status).length;
    if (count) $("status").append(option(status, `${name} (${whole(count)})`));
  });
  const misfit = { lost: "a label without pixels", little: `less than ${LEAST} of a class`, nothing: "nothing of the list found" };
  for (const [name, text] of Object.entries(misfit)) {
    const count = window.rows.filter(TESTS[name]).length;
    if (count) $("status").append(option(name, `${text} (${whole(count)})`));
  }
  $("sort").append(...SORTS.map(([name], place) => option(place, name)));
  $("sort").value = Math.max(SORTS.findIndex(([, place]) => place === IOU), 0);
  $("view").append(option("all", "side by side"), ...report.panels.map((panel) => option(panel, panel)));
  $("order").textContent = `In each: ${report.panels.join(", ")}.`;
  setView();
  const { done, rest } = report.shown;
  if (done < report.done || rest < report.rest) {
    $("sample").textContent = `An even sample: ${whole(done)} of the ${plural(report.done, "image")} with a mask, `
      + `${whole(rest)} of the ${plural(report.rest, "image")} without. All numbers above are those of all images.`;
  }
}

drawHead();
drawCharts();
drawClasses();
drawReasons();
$("settings").append(table([["setting"], ["value"]], report.facts.map(([name, value]) => [name, bdi(value)])));
drawFilters();
listen();
select();
