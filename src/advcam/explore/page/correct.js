// Masks that are mended: the list of images, the tools, and what is saved when.

import { bytes, calm, el, image, json, warn } from "./api.js";
import { Mask, UNKNOWN } from "./paint.js";
import { HEAT, View, coloured, edgesOf, layer } from "./view.js";

const LISTED = 300;
const by = (id) => document.getElementById(id);

let about, view, rows = [], order = [];
let opened = null; // the image that is shown: its mask, version, maps, and what of it is saved
let tool = "brush", value = 1, hidden = false, comparing = 0;
let colours; // of every id, as RGBA words

export async function startCorrect(given) {
  about = given.run;
  colours = palette();
  value = about.classes[0].id;
  view = new View(by("canvas"), draw);
  listClasses();
  listenToTools();
  listenToCanvas();
  listenToKeys();
  listenToDecisions();
  for (const id of ["order", "filter", "search"]) by(id).addEventListener("input", () => list());
  window.addEventListener("beforeunload", (event) => {
    if (opened && opened.unsent) event.preventDefault();
  });
  await refresh();
  if (order.length) await open(order[0].id, way());
  else say("There is no image left in this list.");
}

// The list.

async function refresh() {
  try {
    const found = await json("images");
    rows = found.images;
    comparing = found.comparing;
    list();
    if (comparing) setTimeout(() => refresh(), 2000);
  } catch (error) {
    warn(error.message, { "Try again": refresh });
  }
}

function need(row) {
  if (!row.mask && row.labelled) return 2;
  return Math.max(row.score === null ? 0 : 1 - row.score, row.disagreement ?? 0) - (row.scored ? 10 : 0);
}

const ORDERS = {
  need: (a, b) => need(b) - need(a),
  confidence: (a, b) => (a.score ?? 2) - (b.score ?? 2),
  disagreement: (a, b) => (b.disagreement ?? -1) - (a.disagreement ?? -1),
  random: (a, b) => a.rank - b.rank,
  name: () => 0,
};
const FILTERS = { open: (row) => !row.decision, draft: (row) => row.draft, decided: (row) => row.decision, all: () => true };
const SAID = { accept: "accepted", fix: "mended", reject: "rejected", elsewhere: "from elsewhere" };

function list() {
  const text = by("search").value.trim().toLowerCase(), fits = FILTERS[by("filter").value];
  order = rows.filter((row) => fits(row) && row.id.toLowerCase().includes(text)).sort(ORDERS[by("order").value]);
  by("images").replaceChildren(...order.slice(0, LISTED).map((row) => {
    const marks = [
      row.decision && SAID[row.decision], row.draft && "begun", row.scored && "for scoring", !row.mask && "no mask",
      row.score !== null && `sure ${row.score.toFixed(2)}`, row.disagreement !== null && `differs ${row.disagreement.toFixed(2)}`,
    ].filter(Boolean);
    const button = el("button", { type: "button", onclick: () => go(row.id, row === order[0] ? way() : "chosen") }, el("b", {}, row.id), el("small", {}, marks.join(", ")));
    if (opened && opened.id === row.id) button.setAttribute("aria-current", "true");
    return el("li", {}, button);
  }));
  const more = order.length > LISTED ? `; the first ${LISTED} are listed` : "", left = comparing ? `; compares ${comparing} more` : "";
  by("progress").textContent = `${rows.filter((row) => row.decision).length} of ${rows.length} looked at${more}${left}`;
}

// In which order an image comes up, for the log; one that was looked for was not drawn at random.
function way() {
  return by("search").value.trim() ? "chosen" : by("order").value;
}

function beside(step) {
  const at = order.findIndex((row) => opened && row.id === opened.id);
  if (at >= 0) return order[at + step];
  return order[Math.max(0, (opened?.at ?? 0) + Math.min(0, step))]; // it has left the list: what follows is in its place
}

// One image.

async function go(id, how) {
  if (await settled()) await open(id, how);
}

async function next(step = 1) {
  const row = beside(step);
  if (row) await go(row.id, way());
  else say(step > 0 ? "That was the last image of this list." : "That was the first image of this list.");
}

async function open(id, how) {
  const asked = (open.asked = {});
  say(`opens ${id} ...`);
  let shown, found;
  try {
    found = await bytes("item", { query: { id } });
  } catch (error) {
    if (open.asked === asked) warn(error.message, { "Try again": () => open(id, how) });
    return;
  }
  if (open.asked !== asked) return;
  const end = found.data.indexOf(10), head = JSON.parse(new TextDecoder().decode(found.data.subarray(0, end)));
  const [height, width] = head.size;
  calm();
  let over;
  try {
    over = layer(width, height);
  } catch (error) {
    warn(`${id}: ${error.message}`);
    return;
  }
  opened = {
    ...head, mask: new Mask(found.data.slice(end + 1), width, height), over, held: {}, regions: {},
    unsent: false, sending: null, conflict: false, seconds: 0, since: performance.now(), cursor: null, pen: false,
    how, at: Math.max(0, order.findIndex((row) => row.id === id)),
  };
  if (!head.labels[value] || head.labels[value] === "absent") value = firstClass();
  paintOver([0, 0, width - 1, height - 1]);
  view.of(width, height);
  list();
  listClasses();
  listLabels();
  showMaps();
  by("what").replaceChildren(el("b", {}, id), ` ${told(head)}`);
  delete by("canvas").dataset.shown;
  say("");
  for (const note of head.notes) say(note, true);
  try {
    shown = await image(id);
    if (open.asked !== asked) return;
    opened.image = shown;
    by("canvas").dataset.shown = id;
  } catch (error) {
    if (open.asked === asked) warn(`${error.message}. Its mask is kept as it is; go on to another image.`, { Next: () => next() });
  }
  view.paint();
  if (tool === "region") needRegions();
}

function told(head) {
  const begun = { draft: "as you left it, not saved yet", corrected: "as it was saved", run: "the run's mask", nothing: "no mask" };
  const decided = head.decision.action ? `; ${SAID[head.decision.action]} by ${head.decision.who}, ${head.decision.time}` : "";
  const sure = Object.values(head.scores), score = sure.length ? `; sure ${Math.min(...sure).toFixed(2)}` : "";
  return `${head.size[1]} × ${head.size[0]}, ${begun[head.source]}${decided}${score}${head.scored ? "; for scoring, not learnt from" : ""}`;
}

function firstClass() {
  return (about.classes.find((one) => opened.labels[one.id] === "present") || about.classes[0]).id;
}

function looked() {
  return (opened.seconds + (document.hidden ? 0 : performance.now() - opened.since)) / 1000;
}

document.addEventListener("visibilitychange", () => {
  if (!opened) return;
  if (document.hidden) opened.seconds += performance.now() - opened.since;
  opened.since = performance.now();
});

// Saving. A draft is sent after every change; one request at a time, and the newest mask only.

function changed() {
  opened.unsent = true;
  label();
  if (!opened.sending && !opened.conflict) opened.sending = send(opened);
}

async function send(mine) {
  try {
    while (mine.unsent) {
      mine.unsent = false;
      const sent = await json("draft", { query: { id: mine.id, version: mine.version }, method: "PUT", body: mine.mask.data.slice() });
      mine.version = sent.version;
    }
    mine.failed = false;
    if (opened === mine) say(`draft saved ${new Date().toLocaleTimeString()}`);
    const row = rows.find((one) => one.id === mine.id);
    if (row) row.draft = true;
  } catch (error) {
    mine.unsent = true;
    failed(mine, error, () => {
      mine.sending = send(mine);
    });
  }
  mine.sending = null;
}

function failed(mine, error, again) {
  if (error.status === 409) {
    mine.conflict = true;
    warn(error.message, { "Show what was saved": () => open(mine.id, mine.how), "Keep mine": () => keepMine(mine, again) });
    return;
  }
  mine.failed = true;
  warn(`Not saved: ${error.message}. Your mask is still on this page.`, { "Try again": again });
}

async function keepMine(mine, again) {
  try {
    const found = await bytes("item", { query: { id: mine.id } });
    mine.version = JSON.parse(new TextDecoder().decode(found.data.subarray(0, found.data.indexOf(10)))).version;
    mine.conflict = false;
    mine.unsent = true;
    again();
  } catch (error) {
    failed(mine, error, again);
  }
}

// Whether everything of the image is saved, so that another may be opened; else says why not.
async function settled() {
  const mine = opened;
  if (!mine) return true;
  while (mine.sending) await mine.sending;
  if (!mine.unsent || opened !== mine) return true;
  if (!mine.conflict && !mine.failed) {
    mine.sending = send(mine);
    await mine.sending;
    if (!mine.unsent) return true;
  }
  if (by("alert").hidden) warn("What you have painted is not saved yet.", { "Try again": () => changed() });
  return false;
}

async function decide(action) {
  const mine = opened;
  if (!mine || mine.deciding) return;
  if (mine.conflict) {
    failed(mine, { status: 409, message: "This image was saved on another page since you opened it." }, () => decide(action));
    return;
  }
  mine.deciding = true;
  while (mine.sending) await mine.sending;
  const query = { id: mine.id, action, version: mine.version, order: mine.how, seconds: looked().toFixed(1) };
  try {
    const done = await json("decide", { query, method: "POST", body: mine.mask.data.slice() });
    mine.version = done.version;
    mine.unsent = mine.failed = false;
    const row = rows.find((one) => one.id === mine.id);
    if (row) Object.assign(row, { decision: action === "withdraw" ? "" : done.action, draft: false });
    say(`${mine.id}: ${SAID[done.action] || "undecided again"}`);
  } catch (error) {
    mine.deciding = false;
    failed(mine, error, () => decide(action));
    return;
  }
  mine.deciding = false;
  if (action === "withdraw") {
    await open(mine.id, mine.how);
    return;
  }
  list();
  const after = beside(by("filter").value === "open" ? 0 : 1) || order.find((row) => row.id !== mine.id && !row.decision);
  if (after && after.id !== mine.id) await open(after.id, way());
  else {
    await open(mine.id, mine.how);
    say("That was the last image of this list.");
  }
}

// Drawing.

function palette() {
  const table = new Uint8ClampedArray(256 * 4);
  for (const one of about.classes) table.set([...one.colour, 255], 4 * one.id);
  return table;
}

function paintOver([x0, y0, x1, y1]) {
  const { mask, over } = opened, wide = x1 - x0 + 1, high = y1 - y0 + 1;
  const part = new ImageData(wide, high), words = new Uint32Array(part.data.buffer), table = new Uint32Array(colours.buffer);
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      const id = mask.data[(y + y0) * mask.width + x + x0];
      // what is not known is striped, so that no class looks like it
      words[y * wide + x] = id === UNKNOWN ? ((x + x0 + y + y0) >> 2) & 1 ? 0xffc0e0e0 : 0xff607070 : table[id];
    }
  }
  over.getContext("2d").putImageData(part, x0, y0);
}

function draw(context, width, height) {
  if (!opened) return;
  if (opened.image) context.drawImage(opened.image, 0, 0, width, height);
  if (!hidden && !by("heat").checked) {
    context.globalAlpha = Number(by("opacity").value) / 100;
    context.imageSmoothingEnabled = false;
    context.drawImage(opened.over, 0, 0);
    context.globalAlpha = 1;
  }
  const map = currentMap();
  if (by("heat").checked && map) context.drawImage((map.heat ??= coloured(map.data, width, height, HEAT)), 0, 0);
  if (opened.preview) context.drawImage(opened.preview, 0, 0);
  const edges = tool === "region" && opened.regions[by("regions").value];
  if (edges) {
    context.globalAlpha = 0.35;
    context.drawImage(edges.lines, 0, 0);
    context.globalAlpha = 1;
  }
  if (opened.cursor) {
    const [x, y] = opened.cursor, radius = tool === "brush" || tool === "eraser" ? brush() : 2;
    for (const [style, wide] of [["#000", 3], ["#fff", 1.2]]) {
      context.strokeStyle = style;
      context.lineWidth = (wide * (view.ratio || 1)) / view.scale;
      context.beginPath();
      context.arc(x + 0.5, y + 0.5, Math.max(radius, 0.5), 0, 7);
      context.stroke();
    }
  }
}

function refreshOver(box) {
  if (box) paintOver(box);
  view.paint();
}

function label() {
  const save = by("save"), touched = opened.mask.undos.length > 0 || opened.source === "draft";
  save.textContent = touched ? "Save as mended" : "Accept";
  by("undo").disabled = !opened.mask.undos.length;
  by("redo").disabled = !opened.mask.redos.length;
  by("withdraw").disabled = !rows.find((row) => row.id === opened.id)?.decision;
  by("from-run").disabled = !opened.run;
  by("from-prediction").disabled = !opened.prediction;
}

// Changes.

function change(act) {
  if (!opened) return;
  opened.mask.begin();
  act(opened.mask);
  const box = opened.mask.box;
  if (opened.mask.end()) {
    refreshOver(box);
    changed();
  }
}

function back(which) {
  const box = opened && opened.mask[which]();
  if (!box) return;
  refreshOver(box);
  changed();
}

function brush() {
  return Number(by("size").value) / 2;
}

function painted() {
  return tool === "eraser" ? 0 : value;
}

// Uses the tool at a pixel; `from` is where a stroke has come from.
function use(at, from) {
  const { mask } = opened, x = Math.round(at[0]), y = Math.round(at[1]);
  if (tool === "brush" || tool === "eraser") {
    const clear = mask.box;
    mask.box = null;
    mask.line(from || at, at, brush(), painted());
    const part = mask.box;
    if (clear) mask.touch(...clear);
    if (part) refreshOver(part);
    return;
  }
  if (x < 0 || y < 0 || x >= mask.width || y >= mask.height) return;
  const start = y * mask.width + x;
  if (tool === "fill") {
    const own = mask.data[start];
    if (own !== value) mask.flood(x, y, (pixel) => mask.data[pixel] === own, value);
  } else if (tool === "region") {
    const same = inRegion(start);
    if (!same) return;
    mask.flood(x, y, same, value);
  }
  if (mask.box) refreshOver(mask.box);
}

function inRegion(start) {
  if (by("regions").value === "map") {
    const map = currentMap(), above = limit();
    if (!map) {
      needMap();
      return null;
    }
    return map.data[start] > above ? (pixel) => map.data[pixel] > above : null;
  }
  const found = opened.regions[by("regions").value];
  if (!found) return null;
  const own = found.data[start];
  return (pixel) => found.data[pixel] === own;
}

async function needRegions() {
  const count = by("regions").value, mine = opened;
  if (!mine || mine.regions[count]) return;
  if (count === "map") {
    needMap();
    return;
  }
  say("finds regions ...");
  try {
    const { data } = await bytes("regions", { query: { id: mine.id, count } });
    const numbers = new Uint16Array(data.buffer, 0, mine.mask.width * mine.mask.height);
    mine.regions[count] = { data: numbers, lines: edgesOf(numbers, mine.mask.width, mine.mask.height) };
    if (opened === mine) say("click a region to take it; drag to take several");
    view.paint();
  } catch (error) {
    say(error.message, true);
  }
}

// The map of the class and its threshold.

function key() {
  return `${by("kind").value} ${value}`;
}

function currentMap() {
  return opened && opened.held[key()];
}

function limit() {
  return (Number(by("threshold").value) / 100) * 255;
}

async function needMap() {
  const mine = opened, name = key();
  if (!mine) return null;
  if (mine.held[name]) return mine.held[name];
  if (!mine.maps.includes(value)) {
    say(`there is no map of ${nameOf(value)} for this image`, true);
    return null;
  }
  try {
    const { data } = await bytes("map", { query: { id: mine.id, class: value, kind: by("kind").value } });
    return (mine.held[name] = { data });
  } catch (error) {
    if (opened === mine) say(error.message, true);
    return null;
  }
}

function showMaps() {
  opened.preview = null;
  const there = opened.maps.includes(value);
  for (const id of ["kind", "threshold", "apply", "heat"]) by(id).disabled = !there;
  for (const option of by("kind").options) {
    option.disabled = (option.value === "refined" && !opened.refined) || (option.value === "plain" && !opened.plain);
  }
  if (by("kind").selectedOptions[0].disabled) by("kind").value = "advcam";
  label();
}

async function preview() {
  const mine = opened, map = await needMap();
  if (!map || opened !== mine) return;
  const one = about.classes.find((other) => other.id === value), above = limit();
  const table = new Uint8ClampedArray(256 * 4);
  for (let at = 0; at < 256; at++) if (at > above) table.set([...one.colour.map((part) => Math.min(255, part + 90)), 150], 4 * at);
  try {
    mine.preview = coloured(map.data, mine.mask.width, mine.mask.height, table);
  } catch (error) {
    say(error.message, true);
  }
  view.paint();
}

function begin() {
  by("threshold").value = 100 * about.thresholds[by("kind").value];
  outputs();
}

async function apply() {
  const mine = opened, map = await needMap();
  if (!map || opened !== mine) return;
  mine.preview = null;
  change((mask) => mask.threshold(map.data, limit(), value));
  view.paint();
}

// Controls.

function outputs() {
  by("size").nextElementSibling.textContent = `${by("size").value} px`;
  by("opacity").nextElementSibling.textContent = `${by("opacity").value} %`;
  by("threshold").nextElementSibling.textContent = `${by("threshold").value} %`;
}

function choose(name) {
  tool = name;
  for (const button of by("tools").children) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  by("canvas").dataset.tool = name;
  if (name === "region") needRegions();
  view.paint();
}

function listClasses() {
  const shown = (one) => opened && opened.labels[one.id] !== "absent";
  const every = [
    ...about.classes.map((one, at) => ({ id: one.id, name: one.name, key: at < 9 ? String(at + 1) : "", colour: one.colour, shown: shown(one) })),
    { id: 0, name: "background", key: "0", colour: null, shown: true }, { id: UNKNOWN, name: "not known", key: "K", colour: null, shown: true },
  ];
  by("classes").replaceChildren(...every.map((one) => {
    const radio = el("input", { type: "radio", name: "class", value: String(one.id), checked: one.id === value });
    radio.addEventListener("change", () => take(one.id));
    const swatch = el("span", { class: `swatch ${one.id === UNKNOWN ? "unknown" : ""}`, "aria-hidden": "true" });
    if (one.colour) swatch.style.backgroundColor = `rgb(${one.colour.join(" ")})`;
    return el("label", { class: `check ${one.shown ? "" : "absent"}` }, radio, swatch, el("span", {}, one.name), el("kbd", {}, one.key));
  }));
}

function take(id) {
  value = id;
  const radio = by("classes").querySelector(`input[value="${id}"]`);
  if (radio) radio.checked = true;
  if (tool === "eraser") choose("brush");
  if (opened) showMaps();
  view.paint();
}

function listLabels() {
  by("labels").replaceChildren(...about.classes.map((one) => {
    const select = el("select", {}, ...about.states.map((state) => el("option", { value: state }, state)));
    select.value = opened.labels[one.id];
    select.addEventListener("change", () => relabel(one.id, select.value));
    return el("label", {}, el("span", {}, one.name), " ", select);
  }));
}

async function relabel(id, state) {
  const mine = opened, was = mine.labels, labels = { ...was, [id]: state };
  try {
    await json("labels", { query: { id: mine.id }, method: "PUT", json: { labels, was } });
    mine.labels = labels;
    say("labels saved");
    by("labels-use").textContent = `All labels as corrected: ${about.root}/corrected/labels.csv, for --labels of another run.`;
    listClasses();
  } catch (error) {
    if (error.status === 409) warn(error.message, { "Show them": () => open(mine.id, mine.how) });
    else warn(`Not saved: ${error.message}`);
  }
  if (opened === mine) listLabels();
}

async function beginWith(of) {
  const mine = opened;
  try {
    const data = of === "nothing" ? new Uint8Array(mine.mask.data.length) : (await bytes("mask", { query: { id: mine.id, of } })).data;
    if (opened === mine) change((mask) => mask.become(data));
  } catch (error) {
    say(error.message, true);
  }
}

function listenToTools() {
  for (const button of by("tools").children) button.addEventListener("click", () => choose(button.dataset.tool));
  by("canvas").dataset.tool = tool;
  by("undo").addEventListener("click", () => back("undo"));
  by("redo").addEventListener("click", () => back("redo"));
  by("closer").addEventListener("click", () => view.zoom(1.5));
  by("further").addEventListener("click", () => view.zoom(1 / 1.5));
  by("whole").addEventListener("click", () => view.fit());
  for (const id of ["size", "opacity", "threshold"]) by(id).addEventListener("input", () => {
    outputs();
    if (id === "threshold") preview();
    else view.paint();
  });
  by("threshold").addEventListener("blur", (event) => {
    if (opened && event.relatedTarget !== by("apply")) {
      opened.preview = null;
      view.paint();
    }
  });
  by("regions").addEventListener("change", () => needRegions());
  by("kind").addEventListener("change", async () => {
    begin();
    await needMap();
    if (by("heat").checked) view.paint();
    else preview();
  });
  by("apply").addEventListener("click", apply);
  by("heat").addEventListener("change", async () => {
    await needMap();
    view.paint();
  });
  for (const of of ["run", "prediction", "nothing"]) by(`from-${of}`).addEventListener("click", () => beginWith(of));
  if (!about.ready.refine) by("kind").value = "advcam";
  begin();
}

function listenToDecisions() {
  by("save").addEventListener("click", () => decide("save"));
  by("reject").addEventListener("click", () => decide("reject"));
  by("withdraw").addEventListener("click", () => decide("withdraw"));
  by("skip").addEventListener("click", () => next(1));
  by("back").addEventListener("click", () => next(-1));
}

function listenToCanvas() {
  const canvas = by("canvas"), pointers = new Map();
  let stroke = null, moving = null, pinch = null;

  const drop = () => {
    if (stroke) {
      refreshOver(opened.mask.cancel());
      stroke = null;
    }
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!opened) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, view.place(event));
    if (pointers.size === 2) {
      drop();
      pinch = twoOf(pointers);
      return;
    }
    if (event.button === 1 || event.button === 2 || tool === "pan") {
      moving = view.place(event);
      event.preventDefault();
      return;
    }
    if (event.button !== 0 || !opened.image) return;
    const at = view.pixel(view.place(event));
    opened.mask.begin();
    stroke = at;
    opened.cursor = at;
    use(at, null);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!opened) return;
    const place = view.place(event);
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, place);
    if (pinch && pointers.size === 2) {
      const now = twoOf(pointers);
      view.zoom(now.apart / pinch.apart, ...now.middle);
      view.move(now.middle[0] - pinch.middle[0], now.middle[1] - pinch.middle[1]);
      pinch = now;
      return;
    }
    if (moving) {
      view.move(place[0] - moving[0], place[1] - moving[1]);
      moving = place;
      return;
    }
    opened.cursor = view.pixel(place);
    if (stroke) {
      for (const one of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
        const at = view.pixel(view.place(one));
        if (tool !== "fill") use(at, stroke);
        stroke = at;
      }
    }
    view.paint();
  });
  const end = (event) => {
    pointers.delete(event.pointerId);
    if (pointers.size < 2) pinch = null;
    moving = null;
    if (!stroke) return;
    stroke = null;
    if (opened.mask.end()) changed();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", (event) => {
    drop();
    end(event);
  });
  canvas.addEventListener("pointerleave", () => {
    if (opened && !stroke) {
      opened.cursor = null;
      view.paint();
    }
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    view.zoom(Math.exp(-event.deltaY * 0.0015), ...view.place(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => onCanvasKey(event));
}

function twoOf(pointers) {
  const [a, b] = [...pointers.values()];
  return { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], apart: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) };
}

// Painting without a mouse: a cursor that arrow keys move, and a pen that the space bar sets down and lifts.
function onCanvasKey(event) {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!opened || event.ctrlKey || event.metaKey || event.altKey) return;
  const { mask } = opened;
  opened.cursor ??= [Math.floor(mask.width / 2), Math.floor(mask.height / 2)];
  if (ways[event.key]) {
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1, from = opened.cursor;
    if (tool === "pan") {
      view.move(-ways[event.key][0] * far * 20, -ways[event.key][1] * far * 20);
      return;
    }
    opened.cursor = [
      Math.min(mask.width - 1, Math.max(0, Math.round(from[0]) + far * ways[event.key][0])),
      Math.min(mask.height - 1, Math.max(0, Math.round(from[1]) + far * ways[event.key][1])),
    ];
    if (opened.pen) use(opened.cursor, from);
    say(`column ${opened.cursor[0]}, row ${opened.cursor[1]}: ${nameOf(mask.data[opened.cursor[1] * mask.width + opened.cursor[0]])}`);
    view.paint();
  } else if (event.key === " ") {
    event.preventDefault();
    if (!opened.image) return;
    const draws = tool === "brush" || tool === "eraser";
    if (draws && !opened.pen) {
      opened.pen = true;
      mask.begin();
      use(opened.cursor, null);
      say("pen down");
    } else if (draws) {
      lift();
      say("pen up");
    } else if (tool !== "pan") {
      mask.begin();
      use(opened.cursor, null);
      if (mask.end()) changed();
    }
  }
}

function lift() {
  if (!opened || !opened.pen) return;
  opened.pen = false;
  if (opened.mask.end()) changed();
}

function nameOf(id) {
  return id === 0 ? "background" : id === UNKNOWN ? "not known" : about.classes.find((one) => one.id === id)?.name ?? String(id);
}

function listenToKeys() {
  const keys = {
    b: () => choose("brush"), e: () => choose("eraser"), f: () => choose("fill"), r: () => choose("region"), h: () => choose("pan"),
    k: () => take(UNKNOWN), 0: () => take(0), z: () => back("undo"), y: () => back("redo"), t: () => apply(),
    "+": () => view.zoom(1.5), "=": () => view.zoom(1.5), "-": () => view.zoom(1 / 1.5), Home: () => view.fit(),
    "[": () => resize(-2), "]": () => resize(2), o: () => { hidden = !hidden; view.paint(); },
    Enter: () => decide("save"), x: () => decide("reject"), n: () => next(1), p: () => next(-1),
  };
  document.addEventListener("keydown", (event) => {
    if (by("correct").hidden || !opened || event.altKey || event.defaultPrevented) return;
    const on = event.target, types = on.matches("input:not([type=range],[type=radio],[type=checkbox]), select, textarea");
    const presses = on.matches("button, summary, a") && (event.key === "Enter" || event.key === " ");
    if (types || presses || (on.matches("[type=range]") && event.key === "Home")) return;
    if (event.ctrlKey || event.metaKey) {
      const undo = event.key.toLowerCase() === "z", redo = event.key.toLowerCase() === "y";
      if (!undo && !redo) return;
      event.preventDefault();
      lift();
      back(redo || event.shiftKey ? "redo" : "undo");
      return;
    }
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key, digit = Number(name);
    const one = digit >= 1 ? about.classes[digit - 1] : null;
    if (!one && !keys[name]) return;
    event.preventDefault();
    lift();
    if (one) take(one.id);
    else keys[name]();
  });
  by("canvas").addEventListener("blur", lift);
}

function resize(by2) {
  by("size").value = Number(by("size").value) + by2;
  outputs();
  view.paint();
}

function say(text, wrong = false) {
  by("status").textContent = text;
  by("status").classList.toggle("wrong", wrong);
}
