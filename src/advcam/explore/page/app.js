// Begins the page: what there is, and which of its two parts is shown.

import { json, warn, el } from "./api.js";
import { startClimb } from "./climb.js";
import { startCorrect } from "./correct.js";

const tabs = ["climb", "correct"];
const started = {};

function show(name) {
  for (const other of tabs) {
    const chosen = other === name, tab = document.getElementById(`tab-${other}`);
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(other).hidden = !chosen;
  }
  location.hash = name;
  if (!started[name]) started[name] = name === "climb" ? startClimb(about) : startCorrect(about);
  document.dispatchEvent(new CustomEvent("shown", { detail: name }));
}

for (const name of tabs) {
  const tab = document.getElementById(`tab-${name}`);
  tab.addEventListener("click", () => show(name));
  tab.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const other = document.getElementById(`tab-${tabs[1 - tabs.indexOf(name)]}`);
    if (other.disabled) return;
    other.click();
    other.focus();
  });
}

let about;
try {
  about = await json("about");
  document.getElementById("where").textContent = about.run ? about.run.root : `${about.images.length} images`;
  const correct = document.getElementById("tab-correct");
  if (!about.run) {
    correct.disabled = true;
    correct.title = "Masks are corrected in a run: advcam explore --run RUN";
  }
  if (about.run) for (const note of about.run.notes) document.getElementById("correct").prepend(el("p", { class: "note" }, note));
  const wanted = location.hash.slice(1);
  show(about.run && wanted !== "climb" ? "correct" : "climb");
} catch (error) {
  warn(error.message, { "Try again": () => location.reload() });
}
