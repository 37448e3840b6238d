"use strict";
// What the images of the page are drawn from: it is inside the page, or in files beside it that are loaded as they are needed.
const entries = (index, inside) => {
  const KEPT = 96; // files that are held at once

  const files = new Map(); // number of a file beside the page -> promise of its images
  const waiting = new Map();
  window.advcam = { take: (number, entries) => waiting.get(number)?.(entries) };

  async function entryOf(at) {
    if (at >= index.images) return null;
    if (!index.folder) return inside[at];
    const number = Math.floor(at / index.together);
    const file = files.get(number) || load(number);
    files.delete(number); // and to the end: the last used
    files.set(number, file);
    while (files.size > KEPT) files.delete(files.keys().next().value);
    return ((await file) || [])[at % index.together];
  }

  function load(number) {
    return new Promise((done) => {
      waiting.set(number, done);
      const script = document.createElement("script");
      script.src = `${index.folder}${number}.js`;
      script.onerror = () => done(null);
      script.onload = () => { done(null); waiting.delete(number); script.remove(); };
      document.head.append(script);
    });
  }

  const opened = new WeakMap(); // an image -> promise of its planes and maps

  function unpacked(entry) {
    if (!opened.has(entry)) opened.set(entry, unpack(entry));
    return opened.get(entry);
  }

  async function unpack(entry) {
    const bytes = await inflated(entry.data);
    let at = 0;
    const take = (count) => bytes.subarray(at, (at += count));
    const [plane, map] = [entry.size[0] * entry.size[1], entry.grid[0] * entry.grid[1]];
    const planes = Object.fromEntries(entry.planes.map((kind) => [kind, take(plane)]));
    const maps = Object.fromEntries(entry.maps.map((kind) => [kind, entry.classes.map(() => take(map))]));
    return { planes, maps, grown: entry.grown ? await steps(entry.grown) : [] };
  }

  async function steps(grown) {
    const bytes = await inflated(grown.data);
    const count = grown.grid[0] * grown.grid[1];
    return Array.from({ length: grown.steps }, (_, t) =>
      grown.classes.map((_, k) => bytes.subarray(count * (t * grown.classes.length + k), count * (t * grown.classes.length + k + 1))));
  }

  async function inflated(text) {
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  return { entryOf, unpacked };
};
