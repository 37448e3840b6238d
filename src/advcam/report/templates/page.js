"use strict";
// The images of the page. The state of the view is what the address's fragment says; every control writes it, and draws from it.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const index = read("index");
  const inside = read("inside");
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  const TITLES = {
    image: "image", plain: "plain map", advcam: "AdvCAM", mask: "mask", prediction: "prediction",
    semi: "prediction, semi-supervised", corrected: "corrected mask", truth: "ground truth", difference: "mask and prediction differ",
  };
  const SCORE = { plain: "plain", advcam: "advcam", mask: "masks", prediction: "predictions", semi: "semi" };
  const SIZES = { s: "120px", m: "200px", l: "400px" };
  const IGNORE = 255;
  const nameOf = new Map(index.classes);
  const { entryOf, unpacked } = entries(index, inside);

  // ---- State: the fragment of the address ----

  const first = index.layers.includes("mask") ? "mask" : index.layers.includes("advcam") ? "advcam" : index.layers[0] || "";
  const DEFAULTS = {
    find: "", class: "", state: "", sort: index.sort, reverse: "", page: "1", per: "24", image: "",
    view: "side", layer: first, opacity: "65", size: "m", show: "", step: "",
  };
  let state = { ...DEFAULTS };

  function fromAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    state = { ...DEFAULTS };
    for (const name of Object.keys(DEFAULTS)) if (given.has(name)) state[name] = given.get(name);
    const choices = (name) => $$(`select[name=${name}] option, input[type=radio][name=${name}]`).map((one) => one.value);
    for (const name of ["class", "state", "sort", "per", "size", "view", "layer"])
      if (!choices(name).includes(state[name])) state[name] = DEFAULTS[name];
    if (!nameOf.has(Number(state.show))) state.show = "";
    if (!index.name.includes(state.image)) state.image = "";
    state.opacity = String(Math.min(100, Math.max(0, Number(state.opacity) || 0)));
    state.page = String(Math.max(1, Math.floor(Number(state.page)) || 1));
    state.step = Number(state.step) >= 1 ? String(Math.floor(Number(state.step))) : "";
  }

  function addressOf(changes) {
    const wanted = new URLSearchParams();
    for (const [name, value] of Object.entries({ ...state, ...changes })) if (value !== DEFAULTS[name]) wanted.set(name, value);
    return `#${wanted}`;
  }

  let writing = 0;

  /** Changes the view, and the address with it; `anew` lists other images, `late` spares browsers that limit such changes. */
  function change(changes, anew = false, late = false) {
    if (anew && !("page" in changes)) changes.page = "1";
    Object.assign(state, changes);
    if (anew) list();
    else redraw();
    clearTimeout(writing);
    const write = () => history.replaceState(null, "", addressOf({}));
    if (late) writing = setTimeout(write, 200);
    else write();
  }

  // ---- Which images, in which order ----

  function wanted() {
    const all = index.name.map((_, at) => at);
    if (state.image) return all.filter((at) => index.name[at] === state.image);
    const words = state.find.toLowerCase();
    const position = index.classes.findIndex(([id]) => String(id) === state.class);
    const bit = state.state ? index.bits[state.state] : 0;
    const found = all.filter((at) =>
      index.name[at].toLowerCase().includes(words)
      && (position < 0 || index.labels[at].includes(position))
      && (!bit || index.state[at] & bit)
      && (at < index.images || state.state === "skipped" || words));
    return ordered(found);
  }

  function ordered(found) {
    const sign = state.reverse ? -1 : 1;
    if (state.sort === "name") return found.sort((a, b) => sign * (index.name[a] < index.name[b] ? -1 : 1));
    const values = index.values[state.sort] || [];
    const up = state.sort === "disagreement" ? -sign : sign;
    const last = (at) => values[at] === null || values[at] === undefined;
    return found.sort((a, b) => last(a) - last(b) || (last(a) ? 0 : up * (values[a] - values[b])) || a - b);
  }

  function list() {
    const found = wanted();
    const per = Number(state.per);
    const pages = Math.max(1, Math.ceil(found.length / per));
    const page = Math.min(Number(state.page), pages);
    state.page = String(page);
    const shown = found.slice((page - 1) * per, page * per);
    controls(pages);
    $("#found").textContent = state.image
      ? "One image. "
      : `${found.length} of ${index.images} images${found.length > per ? `, page ${page} of ${pages}` : ""}.`;
    if (state.image) $("#found").append(link({ image: "" }, "Show all"));
    watcher.disconnect();
    $("#rows").replaceChildren(...shown.map(row));
    for (const one of $("#rows").children) watcher.observe(one);
    redraw();
  }

  function link(changes, words) {
    const made = document.createElement("a");
    made.href = addressOf(changes);
    made.textContent = words;
    return made;
  }

  // ---- One image ----

  function row(at) {
    const made = document.createElement("li");
    made.dataset.at = at;
    const heading = document.createElement("h3");
    heading.append(at < index.images ? link({ image: index.name[at] }, index.name[at]) : index.name[at]);
    const facts = document.createElement("p");
    facts.className = "facts";
    facts.append(...index.labels[at].map((position) => chip(...index.classes[position])));
    facts.append(...said(at).map((words) => Object.assign(document.createElement("span"), { textContent: words })));
    made.append(heading, facts);
    for (const words of index.notes[at] || [])
      made.append(Object.assign(document.createElement("p"), { className: "note", textContent: words }));
    return made;
  }

  function chip(id, name) {
    const made = document.createElement("button");
    made.type = "button";
    made.dataset.class = id;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `rgb(${index.colours[id]})`;
    made.append(swatch, name);
    return made;
  }

  function said(at) {
    const value = (name) => (index.values[name] ? index.values[name][at] : null);
    const words = [];
    for (const [name, title] of [["confidence", "confidence"], ["disagreement", "disagreement"]])
      if (value(name) !== null) words.push(`${title} ${share(value(name))}`);
    const unknown = (index.unknown[at] || []).map((position) => index.classes[position][1]);
    if (unknown.length) words.push(`not known: ${unknown.join(", ")}`);
    if (at < index.images && !index.labels[at].length && !unknown.length) words.push("no label");
    for (const [state, title] of [["train", "to train on"], ["accept", "accepted"], ["fix", "mended"], ["reject", "rejected"]])
      if (index.state[at] & index.bits[state]) words.push(title);
    return words;
  }

  const share = (parts) => `${(parts / 100).toFixed(1)}\u00a0%`;

  /** Which layers an image is shown with; each is drawn over the image. */
  function layersOf(entry) {
    const there = [...entry.maps, ...entry.planes];
    if (state.view === "over") {
      if (state.layer === "difference") return there.includes("mask") && second(entry) ? ["difference"] : ["image"];
      return [there.includes(state.layer) ? state.layer : "image"];
    }
    return ["image", ...index.layers.filter((layer) => there.includes(layer))];
  }

  const second = (entry) => ["prediction", "semi"].find((kind) => entry.planes.includes(kind));

  async function fill(item) {
    const at = Number(item.dataset.at);
    const entry = await entryOf(at);
    if (!item.isConnected) return;
    if (!entry) return gone(item);
    const data = await unpacked(entry);
    const want = layersOf(entry);
    const key = want.join();
    if (item.dataset.layers !== key) {
      $$(".panels, .step", item).forEach((old) => old.remove());
      const panels = document.createElement("div");
      panels.className = "panels";
      panels.append(...want.map((layer) => panel(entry, layer)));
      item.append(panels);
      if (entry.grown && want.includes("advcam")) item.append(slider(entry));
      item.dataset.layers = key;
    }
    for (const figure of $$("figure", item)) paint(figure, at, entry, data);
    const step = $(".step", item);
    if (step) {
      const words = `${stepOf(entry)} of ${entry.grown.steps}`;
      $("input", step).value = stepOf(entry);
      $("input", step).setAttribute("aria-valuetext", words);
      $(".value", step).textContent = words;
    }
  }

  function gone(item) {
    if ($(".note.gone", item)) return;
    const words = `its pixels are not there: copy the folder ${index.folder} together with this page, or write the report again`;
    item.append(Object.assign(document.createElement("p"), { className: "note gone", textContent: words }));
  }

  function panel(entry, layer) {
    const figure = document.createElement("figure");
    figure.dataset.layer = layer;
    const stack = document.createElement("div");
    stack.className = "stack";
    const [width, height] = entry.size;
    stack.style.aspectRatio = `${width} / ${height}`;
    stack.style.width = `${Math.min(100, (100 * width) / height)}%`;
    if (entry.jpeg) {
      const image = document.createElement("img");
      image.src = `data:image/jpeg;base64,${entry.jpeg}`;
      image.loading = "lazy";
      if (isMap(layer)) image.className = "grey";
      stack.append(image);
    }
    if (layer !== "image") {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      if (isMap(layer)) canvas.className = "map";
      stack.append(canvas);
    }
    figure.append(stack, document.createElement("figcaption"));
    return figure;
  }

  const isMap = (layer) => layer === "plain" || layer === "advcam";

  function slider(entry) {
    const made = document.createElement("label");
    made.className = "step";
    const input = Object.assign(document.createElement("input"), { type: "range", min: 1, max: entry.grown.steps, step: 1 });
    const value = Object.assign(document.createElement("span"), { className: "value" });
    made.append("AdvCAM after climbing step ", input, value);
    return made;
  }

  const stepOf = (entry) => Math.min(Number(state.step) || entry.grown.steps, entry.grown.steps);

  // ---- Pixels ----

  function paint(figure, at, entry, data) {
    const layer = figure.dataset.layer;
    const name = index.name[at];
    const score = (index.values[SCORE[layer]] || [])[at];
    const scored = typeof score === "number" ? `, mIoU ${share(score)}` : "";
    const image = $("img", figure);
    if (image) image.alt = layer === "image" ? `image ${name}` : "";
    $("figcaption", figure).textContent = `${TITLES[layer]}${scored}`;
    const canvas = $("canvas", figure);
    if (!canvas) return;
    canvas.style.opacity = state.opacity / 100;
    const of = state.show ? `of ${nameOf.get(Number(state.show))}` : "of all classes";
    canvas.setAttribute("aria-label", `${TITLES[layer]} ${of}, ${name}${scored}`);
    const key = [state.show, layer === "advcam" ? state.step : ""].join();
    if (canvas.dataset.drawn === key) return;
    canvas.dataset.drawn = key;
    if (isMap(layer)) drawMap(canvas, ...values(entry, data, layer));
    else drawLabels(canvas, entry.size, layer === "difference" ? differing(entry, data) : data.planes[layer]);
  }

  /** The map that is shown: of the class chosen, or else the strongest of all; of a grown image after the step chosen. */
  function values(entry, data, layer) {
    const grown = layer === "advcam" && entry.grown && stepOf(entry) < entry.grown.steps;
    const classes = grown ? entry.grown.classes : entry.classes;
    const maps = grown ? data.grown[stepOf(entry) - 1] : data.maps[layer];
    const size = grown ? entry.grown.grid : entry.grid;
    const chosen = state.show ? maps.filter((_, i) => classes[i] === Number(state.show)) : maps;
    const strongest = new Uint8Array(size[0] * size[1]);
    for (const map of chosen) for (let i = 0; i < map.length; i++) if (map[i] > strongest[i]) strongest[i] = map[i];
    return [strongest, size];
  }

  function differing(entry, data) {
    const other = data.planes[second(entry)];
    return data.planes.mask.map((id, i) => (id === other[i] || id === IGNORE ? 0 : id || other[i]));
  }

  function drawMap(canvas, map, [width, height]) {
    const pixels = new ImageData(width, height);
    for (let i = 0; i < map.length; i++) {
      const heat = map[i] / 85; // black, red, yellow, white
      pixels.data.set([255 * Math.min(1, heat), 255 * Math.min(1, Math.max(0, heat - 1)), 255 * Math.max(0, heat - 2),
        90 + 0.65 * map[i]], 4 * i);
    }
    put(canvas, pixels);
  }

  function drawLabels(canvas, [width, height], ids) {
    const pixels = new ImageData(width, height);
    for (let i = 0; i < ids.length; i++) {
      if (!ids[i]) continue;
      const dimmed = state.show && ids[i] !== Number(state.show);
      pixels.data.set([...index.colours[ids[i]], dimmed ? 40 : 255], 4 * i);
    }
    put(canvas, pixels);
  }

  function put(canvas, pixels) {
    canvas.width = pixels.width;
    canvas.height = pixels.height;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  // ---- Controls ----

  const near = new Set();
  const watcher = new IntersectionObserver((seen) => {
    for (const one of seen) {
      near[one.isIntersecting ? "add" : "delete"](one.target);
      if (one.isIntersecting) fill(one.target);
    }
  }, { rootMargin: "600px" });

  /** Draws the images near the window, and sets the controls to the state. */
  function redraw() {
    document.documentElement.style.setProperty("--side", SIZES[state.image ? "l" : state.size]);
    $("#rows").className = state.view;
    $("#layers").disabled = state.view !== "over";
    $("#look .value").textContent = `${state.opacity} %`;
    for (const button of $$("button[data-class]")) button.setAttribute("aria-pressed", String(button.dataset.class === state.show));
    for (const curve of $$("[data-of]")) curve.classList.toggle("faint", Boolean(state.show) && curve.dataset.of !== state.show);
    for (const one of near) if (one.isConnected) fill(one); else near.delete(one);
  }

  function controls(pages) {
    for (const form of [$("#find"), $("#look")])
      for (const input of form.elements) {
        if (input.type === "radio") input.checked = input.value === state[input.name];
        else if (input.type === "checkbox") input.checked = Boolean(state[input.name]);
        else if (input.name && input.value !== state[input.name]) input.value = state[input.name];
      }
    const page = Number(state.page);
    Object.assign($("[name=page]"), { value: page, max: pages });
    $("[name=per]").value = state.per;
    $("#of").textContent = `of ${pages}`;
    const [back, on] = $$("#pages button");
    back.disabled = page <= 1;
    on.disabled = page >= pages;
  }

  function turn(page) {
    change({ page: String(page) }, true);
    $("#images").scrollIntoView();
  }

  $("#find").addEventListener("input", ({ target }) =>
    change({ [target.name]: target.type === "checkbox" ? (target.checked ? "1" : "") : target.value, image: "" }, true,
      target.type === "search"));
  $("#look").addEventListener("input", ({ target }) => change({ [target.name]: target.value }, false, target.type === "range"));
  for (const form of [$("#find"), $("#look")]) form.addEventListener("submit", (event) => event.preventDefault());
  $("#pages").addEventListener("click", ({ target }) => {
    if (target.dataset.by) turn(Number(state.page) + Number(target.dataset.by));
  });
  $("[name=page]").addEventListener("change", ({ target }) => turn(Math.max(1, Math.floor(target.value) || 1)));
  $("[name=per]").addEventListener("change", ({ target }) => change({ per: target.value }, true));
  $("#rows").addEventListener("input", ({ target }) => change({ step: target.value }, false, true));
  const choose = (id) => change({ show: id === state.show ? "" : id });
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button[data-class]");
    if (button) choose(button.dataset.class);
  });
  $("#rows").addEventListener("click", async ({ target, offsetX, offsetY }) => {
    if (target.tagName !== "CANVAS") return;
    const [across, down] = [offsetX / target.clientWidth, offsetY / target.clientHeight];
    const entry = await entryOf(Number(target.closest("li").dataset.at));
    const id = classAt(entry, await unpacked(entry), target.closest("figure").dataset.layer, across, down);
    if (id) choose(String(id));
  });

  /** The class of a place: that of the mask, or the one whose map is highest. */
  function classAt(entry, data, layer, across, down) {
    const place = ([width, height]) =>
      Math.min(height - 1, Math.floor(down * height)) * width + Math.min(width - 1, Math.floor(across * width));
    if (!isMap(layer)) {
      const ids = layer === "difference" ? differing(entry, data) : data.planes[layer];
      const id = ids[place(entry.size)];
      return nameOf.has(id) ? id : 0;
    }
    const heights = data.maps[layer].map((map) => map[place(entry.grid)]);
    const highest = Math.max(...heights);
    return highest > 0 ? entry.classes[heights.indexOf(highest)] : 0;
  }

  function open() {
    fromAddress();
    list();
    if (location.hash.includes("=")) $("#images").scrollIntoView();
  }

  for (const swatch of $$("[data-colour]")) swatch.style.background = `rgb(${index.colours[swatch.dataset.colour]})`;
  window.addEventListener("hashchange", () => { if (location.hash.includes("=") || !location.hash) open(); });
  open();
})();
