// Arrays of numbers as pictures, in the colours of the page.

const FAINT = 0.05; // A map whose probabilities change less has no strong colour.

/** Draw an image with its own grey values or colours: rows of numbers from 0 to 255, or of triples. */
export function image(canvas, rows) {
  paint(canvas, rows.length, rows[0].length, (row, column) => {
    const value = rows[row][column];
    return Array.isArray(value) ? value : [value, value, value];
  });
}

/** Draw a feature map: rows of numbers from 0 to 255. */
export function map(canvas, rows) {
  const [low, high] = [colour("--map-low"), colour("--map-high")];
  paint(canvas, rows.length, rows[0].length, (row, column) => mix(low, high, rows[row][column] / 255));
}

/** Draw how much the probability of the answer falls at each place, over the image. */
export function occlusion(canvas, rows, step, seen) {
  const [zero, positive, negative, ink] = ["--zero", "--positive", "--negative", "--trace"].map(colour);
  const limit = Math.max(...rows.flat().map(Math.abs), FAINT);
  paint(canvas, seen.length, seen[0].length, (row, column) => {
    const share = rows[Math.floor(row / step)][Math.floor(column / step)] / limit;
    const pixel = seen[row][column];
    const brightness = Array.isArray(pixel) ? (pixel[0] + pixel[1] + pixel[2]) / 3 : pixel;
    return mix(mix(zero, share < 0 ? negative : positive, Math.abs(share)), ink, (0.45 * brightness) / 255);
  });
}

function paint(canvas, height, width, pixel) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++)
      data.data.set([...pixel(row, column), 255], 4 * (row * width + column));
  context.putImageData(data, 0, 0);
}

const mix = (from, to, share) => from.map((value, place) => value + (to[place] - value) * share);

/** Return a colour of the style sheet, #rrggbb, as numbers. */
function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((place) => Number.parseInt(text.slice(place, place + 2), 16));
}
