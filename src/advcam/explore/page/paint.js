// What is done to a mask. It is a Uint8Array of class ids, never read back from a canvas, so every value stays exact.

export const UNKNOWN = 255;

export class Mask {
  constructor(data, width, height) {
    this.data = data;
    this.width = width;
    this.height = height;
    this.undos = [];
    this.redos = [];
    this.before = null;
  }

  // A change may consist of many strokes of a tool; it is undone as one.
  begin() {
    if (this.before) return;
    this.before = this.data.slice();
    this.box = null;
  }

  touch(x0, y0, x1, y1) {
    const b = this.box;
    this.box = b ? [Math.min(b[0], x0), Math.min(b[1], y0), Math.max(b[2], x1), Math.max(b[3], y1)] : [x0, y0, x1, y1];
  }

  // Ends a change; returns whether any pixel is another now.
  end() {
    const { before, box } = this;
    this.before = null;
    if (!before || !box) return false;
    const step = { box, before: cut(before, this.width, box), after: cut(this.data, this.width, box) };
    if (step.before.every((value, at) => value === step.after[at])) return false;
    this.undos.push(step);
    this.redos = [];
    let kept = 0;
    for (let at = this.undos.length - 1; at >= 0; at--) {
      kept += this.undos[at].before.length;
      if (kept > 2e8 && at < this.undos.length - 1) {
        this.undos.splice(0, at + 1);
        break;
      }
    }
    return true;
  }

  // Takes back a change that has not ended.
  cancel() {
    const box = this.box;
    if (this.before) this.data.set(this.before);
    this.before = null;
    return box;
  }

  undo() {
    return this.move(this.undos, this.redos, "before");
  }

  redo() {
    return this.move(this.redos, this.undos, "after");
  }

  move(from, to, which) {
    const step = from.pop();
    if (!step) return null;
    paste(this.data, this.width, step.box, step[which]);
    to.push(step);
    return step.box;
  }

  disc(x, y, radius, value) {
    const { data, width, height } = this;
    const x0 = Math.max(0, Math.ceil(x - radius)), x1 = Math.min(width - 1, Math.floor(x + radius));
    const y0 = Math.max(0, Math.ceil(y - radius)), y1 = Math.min(height - 1, Math.floor(y + radius));
    if (x0 > x1 || y0 > y1) return;
    for (let row = y0; row <= y1; row++) {
      for (let column = x0; column <= x1; column++) {
        if ((column - x) ** 2 + (row - y) ** 2 <= radius * radius) data[row * width + column] = value;
      }
    }
    this.touch(x0, y0, x1, y1);
  }

  line(from, to, radius, value) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / Math.max(0.5, radius / 3)));
    for (let at = 0; at <= steps; at++) {
      this.disc(from[0] + ((to[0] - from[0]) * at) / steps, from[1] + ((to[1] - from[1]) * at) / steps, radius, value);
    }
  }

  // Gives a value to the pixels that are connected to (x, y) through pixels for which `same` holds.
  flood(x, y, same, value) {
    const { data, width, height } = this;
    if (x < 0 || y < 0 || x >= width || y >= height || !same(y * width + x)) return;
    const seen = new Uint8Array(width * height), stack = [[x, y]]; // a pixel of each run that is still to be filled
    let x0 = x, y0 = y, x1 = x, y1 = y;
    const open = (at) => !seen[at] && same(at);
    while (stack.length) {
      const [column, row] = stack.pop(), start = row * width;
      if (seen[start + column]) continue;
      let left = column, right = column;
      while (left > 0 && open(start + left - 1)) left--;
      while (right < width - 1 && open(start + right + 1)) right++;
      seen.fill(1, start + left, start + right + 1);
      x0 = Math.min(x0, left), x1 = Math.max(x1, right), y0 = Math.min(y0, row), y1 = Math.max(y1, row);
      for (const other of [row - 1, row + 1]) {
        if (other < 0 || other >= height) continue;
        for (let at = left; at <= right; at++) {
          if (open(other * width + at) && (at === left || !open(other * width + at - 1))) stack.push([at, other]);
        }
      }
    }
    for (let row = y0; row <= y1; row++) {
      for (let at = row * width + x0; at <= row * width + x1; at++) if (seen[at]) data[at] = value;
    }
    this.touch(x0, y0, x1, y1);
  }

  // The class where its map is above a threshold, on background, what is not known, and itself; background where it is not.
  threshold(map, above, value) {
    const { data } = this;
    for (let at = 0; at < data.length; at++) {
      const now = data[at];
      if (now !== 0 && now !== value && now !== UNKNOWN) continue;
      data[at] = map[at] > above ? value : 0;
    }
    this.touch(0, 0, this.width - 1, this.height - 1);
  }

  become(other) {
    this.data.set(other);
    this.touch(0, 0, this.width - 1, this.height - 1);
  }
}

function cut(data, width, [x0, y0, x1, y1]) {
  const wide = x1 - x0 + 1, made = new Uint8Array(wide * (y1 - y0 + 1));
  for (let y = y0; y <= y1; y++) made.set(data.subarray(y * width + x0, y * width + x1 + 1), (y - y0) * wide);
  return made;
}

function paste(data, width, [x0, y0, x1, y1], part) {
  const wide = x1 - x0 + 1;
  for (let y = y0; y <= y1; y++) data.set(part.subarray((y - y0) * wide, (y - y0 + 1) * wide), y * width + x0);
}
