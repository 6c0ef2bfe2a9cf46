// The drawing area: strokes of a mouse, a finger or the keyboard, or one picture.

const SIDE = 280; // pixels of the picture that the service gets
const PEN = 0.085; // width of the pen, as a share of the side
const STEP = 1 / 24; // of the pen for one arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Events: `change` with each movement of the pen, `rest` when it is lifted, and `clear`.
 * A picture in the drawing area takes the place of the strokes.
 */
export class Board extends EventTarget {
  #canvas;
  #cursor;
  #status;
  #strokes = [];
  #stroke = null; // that is being drawn
  #pointer = null; // that draws it
  #pen = { x: 0.5, y: 0.5, down: false }; // of the keyboard
  #file = null;
  #bitmap = null;
  #requested = false; // whether a frame is
  colour = null; // of the ink; null: the text colour here, and black for the service
  drawable = true;

  constructor(canvas, cursor, status) {
    super();
    this.#canvas = canvas;
    this.#cursor = cursor;
    this.#status = status;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.#lift(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#penUp());
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  get empty() {
    return this.#file === null && this.#strokes.length === 0;
  }

  get drawing() {
    return this.#stroke !== null;
  }

  get hasStrokes() {
    return this.#strokes.length > 0;
  }

  /** Show a picture instead of strokes. Throws if the browser cannot read it. */
  async show(file) {
    const bitmap = await createImageBitmap(file);
    this.#reset();
    this.#bitmap = bitmap;
    this.#file = ["image/png", "image/jpeg"].includes(file.type) ? file : await asPng(bitmap);
    this.redraw();
    this.dispatchEvent(new Event("change"));
    this.dispatchEvent(new Event("rest"));
  }

  undo() {
    if (this.#file) return this.clear();
    this.#strokes.pop();
    this.#stroke = null;
    this.#pen.down = false;
    this.redraw();
    this.dispatchEvent(new Event(this.empty ? "clear" : "change"));
    if (!this.empty) this.dispatchEvent(new Event("rest"));
  }

  clear() {
    this.#reset();
    this.redraw();
    this.dispatchEvent(new Event("clear"));
  }

  /** Return what the service gets: the file of the picture as it is, or a PNG of the strokes, dark on white. */
  async picture() {
    if (this.#file) return this.#file;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIDE, SIDE);
    for (const stroke of this.#strokes) trace(context, stroke, SIDE, stroke.colour ?? "#000");
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  /** Draw again with the next frame. */
  redraw() {
    if (this.#requested) return;
    this.#requested = true;
    requestAnimationFrame(() => {
      this.#requested = false;
      this.#paint();
    });
  }

  #reset() {
    this.#bitmap?.close();
    this.#strokes = [];
    this.#stroke = this.#pointer = this.#file = this.#bitmap = null;
    this.#pen.down = false;
    this.#showPen();
  }

  #begin(x, y) {
    if (this.#file) this.#reset();
    this.#stroke = { points: [[x, y]], colour: this.colour };
    this.#strokes.push(this.#stroke);
    this.#changed();
  }

  #changed() {
    this.redraw();
    this.dispatchEvent(new Event("change"));
  }

  #press(event) {
    if (!this.drawable || event.button !== 0 || this.#pointer !== null) return;
    event.preventDefault();
    this.#canvas.focus({ preventScroll: true, focusVisible: false });
    this.#penUp();
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#begin(...this.#place(event));
  }

  #move(event) {
    if (event.pointerId !== this.#pointer || !this.#stroke) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#stroke.points.push(this.#place(each));
    this.#changed();
  }

  #lift(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    if (!this.#stroke) return;
    this.#stroke = null;
    this.dispatchEvent(new Event("rest"));
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #key(event) {
    if (event.altKey || (event.key !== "z" && (event.ctrlKey || event.metaKey))) return;
    if (event.key === "Delete" || event.key === "Backspace" || event.key === "Escape") {
      if (this.empty) return;
      this.clear();
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.undo();
    else if (!this.drawable) return;
    else if (event.key === " ") {
      if (event.repeat) return event.preventDefault();
      if (this.#pen.down) this.#penUp();
      else this.#penDown();
    } else if (event.key in ARROWS) {
      const [x, y] = ARROWS[event.key];
      const length = event.shiftKey ? 3 * STEP : STEP;
      this.#pen.x = Math.min(1 - PEN, Math.max(PEN, this.#pen.x + x * length));
      this.#pen.y = Math.min(1 - PEN, Math.max(PEN, this.#pen.y + y * length));
      if (this.#pen.down) {
        this.#stroke.points.push([this.#pen.x, this.#pen.y]);
        this.#changed();
      }
      this.#showPen();
    } else return;
    event.preventDefault();
  }

  #penDown() {
    this.#begin(this.#pen.x, this.#pen.y);
    this.#pen.down = true;
    this.#status.textContent = "Pen down";
    this.#showPen();
  }

  #penUp() {
    if (!this.#pen.down) return;
    this.#pen.down = false;
    this.#stroke = null;
    this.#status.textContent = "Pen up";
    this.#showPen();
    this.dispatchEvent(new Event("rest"));
  }

  #showPen() {
    this.#cursor.style.left = `${this.#pen.x * 100}%`;
    this.#cursor.style.top = `${this.#pen.y * 100}%`;
    this.#cursor.classList.toggle("down", this.#pen.down);
  }

  #paint() {
    const side = Math.round(this.#canvas.clientWidth * devicePixelRatio);
    if (this.#canvas.width !== side) this.#canvas.width = this.#canvas.height = side;
    const context = this.#canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    if (this.#bitmap) {
      const { width, height } = this.#bitmap;
      const scale = side / Math.max(width, height);
      context.imageSmoothingEnabled = scale < 4;
      context.drawImage(this.#bitmap, (side - width * scale) / 2, (side - height * scale) / 2, width * scale, height * scale);
    }
    const ink = getComputedStyle(this.#canvas).color;
    for (const stroke of this.#strokes) trace(context, stroke, side, stroke.colour ?? ink);
  }
}

/** Draw one stroke as a smooth line. */
function trace(context, { points }, side, colour) {
  const at = ([x, y]) => [x * side, y * side];
  context.strokeStyle = colour;
  context.lineWidth = PEN * side;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...at(points[0]));
  for (let place = 1; place < points.length - 1; place++) {
    const [x, y] = at(points[place]);
    const [nextX, nextY] = at(points[place + 1]);
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  context.lineTo(...at(points.at(-1)));
  context.stroke();
}

async function asPng(bitmap) {
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
