// Calls of the server. The token is part of the page's own address, so all addresses are relative to it.

const base = new URL("api/", location.href);

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answer(path, { query = {}, method = "GET", json, body, signal } = {}) {
  const url = new URL(path, base);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  let found;
  try {
    found = await fetch(url, { method, body: json ? JSON.stringify(json) : body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer: is `advcam explore` still running?", 0);
  }
  if (found.ok) return found;
  let said = `${found.status} ${found.statusText}`;
  try {
    said = (await found.json()).error || said;
  } catch {
    // no JSON: the status says it
  }
  throw new Problem(said, found.status);
}

export async function json(path, options) {
  return (await answer(path, options)).json();
}

export async function bytes(path, options) {
  return { data: new Uint8Array(await (await answer(path, options)).arrayBuffer()) };
}

export async function image(id) {
  const blob = await (await answer("image", { query: { id } })).blob();
  return createImageBitmap(blob);
}

// Calls `each` with every line of JSON as it arrives.
export async function lines(path, options, each) {
  const reader = (await answer(path, options)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) each(JSON.parse(part));
  }
}

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list" && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const alert = document.getElementById("alert");

// Says something that must be seen, with buttons {words: what they do}; every button closes it.
export function warn(text, buttons = {}) {
  alert.querySelector("p").textContent = text;
  const row = alert.querySelector(".row");
  row.replaceChildren();
  for (const [words, act] of Object.entries({ ...buttons, Close: () => {} })) {
    row.append(el("button", { type: "button", onclick: () => { calm(); act(); } }, words));
  }
  alert.hidden = false;
}

export function calm() {
  alert.hidden = true;
}
