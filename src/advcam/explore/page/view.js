// A canvas that shows layers of one size, zoomed and moved.

// A canvas that holds every pixel; an error where the browser draws nothing on one so large, which it does not say itself.
export function layer(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  if (!holds(canvas.getContext("2d"), width - 1, height - 1)) {
    throw new Error(`this browser cannot hold ${width} × ${height} pixels, and at another size a mask would not be exact: `
      + "try another browser, or more memory, or correct it with another tool");
  }
  return canvas;
}

function holds(context, x, y) {
  try {
    context.fillRect(x, y, 1, 1);
    const held = context.getImageData(x, y, 1, 1).data[3] === 255;
    context.clearRect(x, y, 1, 1);
    return held;
  } catch {
    return false;
  }
}

export class View {
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.draw = draw;
    this.width = this.height = 1;
    this.scale = 1;
    this.left = this.top = 0;
    this.asked = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  // Shows something of another size, whole.
  of(width, height) {
    this.width = width;
    this.height = height;
    this.fit();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    if (!box.width || !box.height) return;
    const whole = this.isWhole();
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.ratio = ratio;
    if (whole) this.fit();
    this.paint();
  }

  isWhole() {
    return this.whole !== false;
  }

  fit() {
    const { canvas } = this;
    this.scale = Math.min(canvas.width / this.width, canvas.height / this.height);
    this.left = (canvas.width - this.width * this.scale) / 2;
    this.top = (canvas.height - this.height * this.scale) / 2;
    this.whole = true;
    this.paint();
  }

  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const scale = Math.min(64, Math.max(this.scale * factor, 0.02));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.whole = false;
    this.paint();
  }

  move(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.whole = false;
    this.paint();
  }

  // The place of an event on the canvas, in its own pixels.
  place(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.ratio || 1;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  // ... and in those of the image, whose first has its centre at 0.
  pixel([x, y]) {
    return [(x - this.left) / this.scale - 0.5, (y - this.top) / this.scale - 0.5];
  }

  paint() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      const { canvas } = this, context = canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.setTransform(this.scale, 0, 0, this.scale, this.left, this.top);
      context.imageSmoothingEnabled = this.scale < 2;
      this.draw(context, this.width, this.height);
      const ratio = this.ratio || 1;
      Object.assign(canvas.dataset, { scale: this.scale / ratio, left: this.left / ratio, top: this.top / ratio });
    });
  }
}

// 256 colours of a map, black to red to yellow to white, with more of the image where it is low.
export const HEAT = new Uint8ClampedArray(256 * 4);
for (let value = 0; value < 256; value++) {
  const share = value / 255;
  for (let channel = 0; channel < 3; channel++) HEAT[4 * value + channel] = 255 * Math.min(1, Math.max(0, 3 * share - channel));
  HEAT[4 * value + 3] = 255 * (0.25 + 0.6 * share);
}

export function coloured(values, width, height, colours) {
  const made = layer(width, height), data = new ImageData(width, height), words = new Uint32Array(data.data.buffer);
  const table = new Uint32Array(colours.buffer);
  for (let at = 0; at < values.length; at++) words[at] = table[values[at]];
  made.getContext("2d").putImageData(data, 0, 0);
  return made;
}

// The borders of numbered regions, white.
export function edgesOf(numbers, width, height) {
  const made = layer(width, height), data = new ImageData(width, height), words = new Uint32Array(data.data.buffer);
  for (let at = 0; at < numbers.length; at++) {
    const right = at % width < width - 1 && numbers[at] !== numbers[at + 1];
    if (right || (at + width < numbers.length && numbers[at] !== numbers[at + width])) words[at] = 0xffffffff;
  }
  made.getContext("2d").putImageData(data, 0, 0);
  return made;
}
