// Maps that grow while they are computed, in one pane or two.

import { el, image, json, lines, warn } from "./api.js";
import { HEAT, coloured, layer } from "./view.js";

const SLIDERS = ["steps", "step_size", "tau", "restrain", "suppress"];
const MOST = 500;
const page = crypto.getRandomValues(new Uint32Array(2)).join("-");

let about, chosen, bitmap;
const panes = [];

export function startClimb(given) {
  about = given;
  const list = document.getElementById("image-list"), search = document.getElementById("image-search");
  const fill = () => {
    const text = search.value.trim().toLowerCase(), found = about.images.filter((name) => name.toLowerCase().includes(text));
    list.replaceChildren(...found.slice(0, MOST).map((name) => el("option", { value: name }, name)));
    if (found.length > MOST) list.append(el("option", { disabled: true }, `... ${found.length - MOST} more: type a part of the name`));
    if (!found.length) list.append(el("option", { disabled: true }, "no image has this in its name"));
    if (found.includes(chosen)) list.value = chosen;
  };
  search.addEventListener("input", () => {
    fill();
    if (list.value && !list.selectedOptions[0].disabled) pick(list.value);
  });
  list.addEventListener("change", () => pick(list.value));
  dropping(document.getElementById("drop"), document.getElementById("file"));
  document.getElementById("compare").addEventListener("click", () => add(panes[0]));
  fill();
  add();
  if (about.images.length) pick(about.images[0]);
}

function dropping(zone, input) {
  const send = async (file) => {
    if (!file) return;
    try {
      const { image: name } = await json("drop", { query: { name: file.name }, method: "POST", body: file });
      document.getElementById("image-list").append(el("option", { value: name }, `dropped: ${file.name}`));
      document.getElementById("image-list").value = name;
      pick(name);
    } catch (error) {
      warn(error.message);
    }
  };
  input.addEventListener("change", () => send(input.files[0]));
  const whole = document.getElementById("climb");
  whole.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  whole.addEventListener("dragleave", () => zone.classList.remove("over"));
  whole.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    send(event.dataTransfer.files[0]);
  });
}

async function pick(name) {
  chosen = name;
  for (const pane of panes) pane.stop();
  try {
    const shown = await image(name);
    if (chosen !== name) return;
    bitmap = grey(shown);
  } catch (error) {
    warn(error.message);
    return;
  }
  for (const pane of panes) pane.look();
}

function grey(shown) {
  const side = Math.min(1, 640 / Math.max(shown.width, shown.height));
  const made = layer(Math.max(1, Math.round(shown.width * side)), Math.max(1, Math.round(shown.height * side)));
  const context = made.getContext("2d");
  context.filter = "grayscale(1)";
  context.drawImage(shown, 0, 0, made.width, made.height);
  return { grey: made, shown };
}

function add(like) {
  const root = document.getElementById("pane").content.firstElementChild.cloneNode(true);
  document.getElementById("panes").append(root);
  panes.push(new Pane(root, panes.length, like));
  tidy();
}

function tidy() {
  const several = panes.length > 1;
  document.getElementById("compare").disabled = several;
  for (const [at, pane] of panes.entries()) {
    pane.root.setAttribute("aria-label", several ? `Climb ${at + 1} of 2` : "Climb");
    pane.find("remove").hidden = !several;
  }
}

class Pane {
  constructor(root, at, like) {
    this.root = root;
    this.id = `${page}-${at}`;
    this.steps = [];
    this.classes = new Set(like ? like.classes : []);
    this.abort = null;
    this.find("model").append(...about.models.map((name) => el("option", { value: name }, name)));
    this.find("preset").append(...Object.keys(about.presets).map((name) => el("option", { value: name }, name)));
    this.find("method").replaceChildren(...about.methods.map((name) => el("option", { value: name }, name)));
    const other = about.models.length > 1 && like ? about.models.find((name) => name !== like.find("model").value) : null;
    this.find("model").value = other || (like ? like.find("model").value : about.models[0]);
    this.preset(like ? like.find("preset").value : "default");
    if (like) for (const name of [...SLIDERS, "scales", "method"]) this.find(name).value = like.find(name).value;
    if (like) this.find("mirror").checked = like.find("mirror").checked;
    this.outputs();
    this.listen();
    if (like) this.look();
  }

  find(name) {
    return this.root.querySelector(`.${name}`);
  }

  listen() {
    this.find("model").addEventListener("change", () => {
      this.classes.clear();
      this.look();
    });
    this.find("preset").addEventListener("change", () => {
      this.preset(this.find("preset").value);
      this.climb();
    });
    for (const name of SLIDERS) {
      this.find(name).addEventListener("input", () => {
        this.outputs();
        this.soon();
      });
    }
    for (const name of ["scales", "method", "mirror"]) this.find(name).addEventListener("change", () => this.climb());
    this.find("shown").addEventListener("input", () => {
      this.follow = Number(this.find("shown").value) === this.steps.length;
      this.draw();
    });
    this.find("first").addEventListener("change", () => this.draw());
    this.find("again").addEventListener("click", () => this.climb());
    this.find("stop").addEventListener("click", () => this.stop("stopped"));
    this.find("as-python").addEventListener("click", () => this.copy("python"));
    this.find("as-command").addEventListener("click", () => this.copy("command"));
    this.find("remove").addEventListener("click", () => this.remove());
    this.find("named").addEventListener("input", () => this.search());
  }

  preset(name) {
    this.find("preset").value = name;
    const made = about.presets[name];
    for (const slider of SLIDERS) this.find(slider).value = made[slider];
    this.find("scales").value = made.scales.join(", ");
    this.find("method").value = made.method;
    this.find("mirror").checked = made.mirror;
    this.outputs();
  }

  outputs() {
    for (const name of SLIDERS) this.find(name).nextElementSibling.textContent = this.find(name).value;
  }

  // The settings that differ from the preset's.
  changes() {
    const made = about.presets[this.find("preset").value], now = {};
    for (const name of SLIDERS) now[name] = Number(this.find(name).value);
    now.scales = this.find("scales").value.split(/[\s,;]+/).filter(Boolean).map(Number);
    now.method = this.find("method").value;
    now.mirror = this.find("mirror").checked;
    return Object.fromEntries(Object.entries(now).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(made[name])));
  }

  asked() {
    const [model, preset] = [this.find("model").value, this.find("preset").value];
    return { image: chosen, model, classes: [...this.classes], preset, changes: this.changes(), pane: this.id };
  }

  // The classes that the model sees in the image; then a climb.
  async look() {
    if (!chosen || !bitmap) return;
    this.stop();
    const name = chosen, model = this.find("model").value;
    this.say("the model looks at the image ...");
    try {
      const found = await json("likely", { query: { model, id: name } });
      if (chosen !== name || this.find("model").value !== model) return;
      this.offered = found;
      const known = found.map((one) => one.at);
      if (![...this.classes].some((at) => known.includes(at))) this.classes = new Set(known.slice(0, 1));
      this.offer();
    } catch (error) {
      this.say(error.message, true);
      return;
    }
    this.climb();
  }

  offer() {
    this.find("likely").replaceChildren(...this.offered.map((one) => {
      const box = el("input", { type: "checkbox", checked: this.classes.has(one.at) });
      box.addEventListener("change", () => {
        this.classes[box.checked ? "add" : "delete"](one.at);
        if (this.classes.size) this.climb();
        else this.stop("pick a class");
      });
      const score = one.score === null ? "" : ` ${one.score.toFixed(1)}`;
      return el("label", { class: "check" }, box, ` ${one.name}`, el("small", {}, score));
    }));
  }

  async search() {
    const text = this.find("named").value.trim();
    if (!text) return;
    clearTimeout(this.searching);
    this.searching = setTimeout(async () => {
      try {
        const found = await json("named", { query: { model: this.find("model").value, text } });
        const there = new Set(this.offered.map((one) => one.at));
        this.offered = [...this.offered.filter((one) => one.score !== null || this.classes.has(one.at)), ...found.filter((one) => !there.has(one.at))];
        if (!found.length) this.say(`no class has ${text} in its name`, true);
        this.offer();
      } catch (error) {
        this.say(error.message, true);
      }
    }, 250);
  }

  soon() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.climb(), 150);
  }

  stop(said) {
    clearTimeout(this.waiting);
    if (this.abort) this.abort.abort();
    this.abort = null;
    if (said) this.say(said);
  }

  async climb() {
    if (!chosen || !bitmap || !this.classes.size) return;
    this.stop();
    const abort = (this.abort = new AbortController());
    this.steps = [];
    this.follow = true;
    this.root.dataset.state = "climbing";
    this.say("climbs ...");
    try {
      await lines("climb", { method: "POST", json: this.asked(), signal: abort.signal }, (line) => {
        if (this.abort !== abort) return;
        if (line.error) throw new Error(line.error);
        if (line.done) this.done();
        else this.take(line);
      });
    } catch (error) {
      if (this.abort !== abort) return;
      this.root.dataset.state = "failed";
      if (error.name !== "AbortError") this.say(error.message, true);
    }
    if (this.abort === abort) this.abort = null;
  }

  take(line) {
    const [height, width] = line.size, count = line.classes.length;
    for (const which of ["maps", "plain"]) {
      const data = Uint8Array.from(atob(line[which]), (letter) => letter.charCodeAt(0));
      line[which] = line.classes.map((_, at) => data.subarray(at * height * width, (at + 1) * height * width));
    }
    this.steps.push(line);
    const scale = line.scale > 1 ? `, scale ${line.scale}` : "";
    this.say(`step ${line.step} of ${line.steps}${scale}, ${count} ${count > 1 ? "classes" : "class"}`);
    this.draw();
  }

  done() {
    this.root.dataset.state = "done";
    const last = this.steps[this.steps.length - 1];
    if (last) this.say(`${this.steps.length} steps done: ${last.layer}`);
  }

  draw() {
    const slider = this.find("shown");
    if (!this.steps.length) return;
    slider.max = this.steps.length;
    if (this.follow) slider.value = this.steps.length;
    slider.nextElementSibling.textContent = `${slider.value} of ${this.steps.length}`;
    const step = this.steps[Number(slider.value) - 1], [height, width] = step.size;
    const maps = this.find("first").checked ? step.plain : step.maps;
    const figures = step.classes.map((at, number) => {
      const name = (this.offered.find((one) => one.at === at) || { name: `class ${at}` }).name;
      const canvas = layer(bitmap.grey.width, bitmap.grey.height), context = canvas.getContext("2d");
      context.drawImage(bitmap.grey, 0, 0);
      context.imageSmoothingQuality = "high";
      context.drawImage(coloured(maps[number], width, height, HEAT), 0, 0, canvas.width, canvas.height);
      const begin = this.steps[0].scores[number], score = step.scores[number];
      const grown = score === null || begin === null ? "score not finite" : `score ${begin.toFixed(1)} to ${score.toFixed(1)}`;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `map of ${name} after step ${step.step}`);
      return el("figure", {}, canvas, el("figcaption", {}, name, el("small", {}, grown)));
    });
    this.find("maps").replaceChildren(...figures);
  }

  say(text, wrong = false) {
    const said = this.find("said");
    said.textContent = text;
    said.classList.toggle("wrong", wrong);
  }

  async copy(kind) {
    if (!this.classes.size || !chosen) return;
    try {
      const found = await json("copy", { method: "POST", json: this.asked() });
      const text = found[kind] || found.why, box = this.find("copied");
      box.hidden = false;
      box.value = text;
      box.select();
      if (found[kind]) {
        await navigator.clipboard?.writeText(text).catch(() => {});
        this.say(`copied; it gives the map that is shown${chosen.startsWith("dropped:") ? ", of the file in the current folder" : ""}`);
      } else {
        this.say(found.why, true);
      }
    } catch (error) {
      this.say(error.message, true);
    }
  }

  remove() {
    this.stop();
    this.root.remove();
    panes.splice(panes.indexOf(this), 1);
    tidy();
  }
}
