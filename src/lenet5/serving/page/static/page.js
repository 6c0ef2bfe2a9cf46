// The page: it sends what is drawn, and shows the answers.

import { Board } from "./board.js";
import { accepted, notice, onKey, report } from "./key.js";
import * as paint from "./paint.js";
import * as service from "./service.js";

const REST = 600; // milliseconds after the last stroke, until the picture counts as finished
const FRAME = 40; // milliseconds between two requests while the pen moves, at least
const ALL = 12; // classes that have a bar and a button each; of more, the likeliest have one
const SHOWN = 8;
const TITLES = { digit: "Draw a character", object: "Draw something", whole: "Choose a picture" };
const POLL = 5000; // milliseconds between two questions while no version is loaded

const $ = (id) => document.getElementById(id);
const board = new Board($("pad"), $("pen"), $("pen-status"));
let model = null;
let drawing = 0; // counts the drawings, so that answers for an earlier one are dropped
let requestId = null; // of the answer that feedback is about
let last = null; // the last answer
let resting = 0;
let previews = { wanted: false, running: false };

board.addEventListener("change", () => {
  $("placeholder").classList.add("gone");
  tools();
  unexplained();
  live();
  scheduleRest();
});
board.addEventListener("rest", scheduleRest);
board.addEventListener("clear", () => {
  clearTimeout(resting);
  drawing++;
  tools();
  notice("");
  $("placeholder").classList.remove("gone");
  forget();
});

// --- what is served -------------------------------------------------------------------------------------------

async function load() {
  try {
    adopt(await service.model());
    accepted();
  } catch (refusal) {
    report(refusal);
    if (refusal.status !== 401) setTimeout(load, Math.max(POLL, 1000 * refusal.retrySeconds));
  }
}

function adopt(served) {
  const digits = served.classes.join("") === "0123456789";
  const colours = served.shape.length === 3;
  const drawable = served.pictures !== "whole";
  model = served;
  board.drawable = drawable;
  board.colour = colours && drawable && served.pictures !== "digit" ? $("colour").value : null;
  $("colour-tool").hidden = board.colour === null;
  $("title").textContent = digits ? "Draw a digit" : TITLES[served.pictures];
  $("lead").textContent = drawable ? "The network reads it while you draw." : "The network says what it shows.";
  $("placeholder-text").textContent = drawable ? "Draw here" : "Drop a picture here";
  $("keys-text").hidden = $("undo").hidden = !drawable;
  $("board").classList.toggle("pictures", !drawable);
  $("version").textContent = `${served.model}, version ${served.version}`;
  $("report").hidden = !served.report;
  $("report").textContent = service.hasKey() ? "Report (download)" : "Report";
  $("logged").textContent =
    "Each answer for a finished picture is a row in the inference log of this service, " +
    `${served.pixels_logged ? "with" : "without"} the picture. Nothing leaves it, and nothing is logged while you draw.`;
  document.title = `${$("title").textContent} · ${served.model}`;
  $("answer").classList.toggle("named", served.classes.some((name) => name.length > 2));
  bars();
  choices();
  if (!drawable && board.hasStrokes) board.clear();
}

/** Return whether the page knows the classes of an answer; another version may have answered. */
async function known(answer) {
  if (answer.version !== model.version) await load();
  return answer.version === model.version;
}

// --- asking ---------------------------------------------------------------------------------------------------

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Ask for probabilities and maps while the pen moves: one request at a time, and always the newest picture. */
async function live() {
  previews.wanted = true;
  if (previews.running || !model) return;
  previews.running = true;
  while (previews.wanted) {
    previews.wanted = false;
    const asked = drawing;
    const pause = sleep(FRAME);
    try {
      await new Promise(requestAnimationFrame);
      if (board.empty) break;
      const answer = await service.preview(await board.picture());
      if (!(await known(answer)) || asked !== drawing || board.empty || requestId) continue;
      show(answer);
      await pause;
    } catch (refusal) {
      if (!(refusal instanceof service.Refusal)) {
        previews.running = false;
        throw refusal;
      }
      if (refusal.status === 422) continue; // the first point of a stroke shows nothing yet
      if (refusal.status === 401) report(refusal);
      await sleep(Math.max(300, 1000 * refusal.retrySeconds));
    }
  }
  previews.running = false;
}

function scheduleRest() {
  clearTimeout(resting);
  resting = setTimeout(rest, REST);
}

/** Ask for the answer and its explanation when the pen rests. */
async function rest() {
  if (board.empty || board.drawing || !model) return;
  const asked = drawing;
  const version = ++answers;
  try {
    const answer = await service.explain(await board.picture());
    if (!(await known(answer))) return scheduleRest();
    if (asked !== drawing || version !== answers || board.empty || board.drawing) return;
    notice("");
    show(answer);
    explained(answer);
  } catch (refusal) {
    if (asked !== drawing) return;
    if (refusal.status !== 429) report(refusal); // it asks again soon
    if (refusal.retrySeconds) resting = setTimeout(rest, 1000 * refusal.retrySeconds);
  }
}
let answers = 0; // that were asked for

// --- showing --------------------------------------------------------------------------------------------------

/** Return a share in words; no probability is exactly 0 or 1. */
const percent = (share) => (share > 0.9995 ? ">\u00a099.9\u00a0%" : `${(100 * share).toFixed(1)}\u00a0%`);

const make = (tag, name, text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });

function bars() {
  const rows = Math.min(model.classes.length, model.classes.length > ALL ? SHOWN : ALL);
  $("bars").replaceChildren(
    ...Array.from({ length: rows }, (_, row) => {
      const item = document.createElement("li");
      const track = make("span", "track");
      track.append(make("span", "fill"));
      item.append(make("span", "name", model.classes.length > ALL ? "" : model.classes[row]), track, make("span", "share"));
      return item;
    }),
  );
  $("bars").classList.toggle("long", Math.max(...model.classes.map((name) => name.length)) > 3);
}

function show(answer) {
  const [{ class: best, probability, probabilities }] = answer.predictions;
  const order = probabilities.map((_, code) => code).sort((one, other) => probabilities[other] - probabilities[one]);
  const shown = model.classes.length > ALL ? order : model.classes.map((_, code) => code);
  [...$("bars").children].forEach((item, row) => {
    const code = shown[row];
    const [name, track, share] = item.children;
    name.textContent = model.classes[code];
    share.textContent = percent(probabilities[code]);
    track.firstChild.style.transform = `translateX(${100 * (probabilities[code] - 1)}%)`;
    item.classList.toggle("best", code === order[0]);
  });
  $("class").textContent = best;
  $("class").classList.remove("none");
  $("class").classList.toggle("long", best.length > 2);
  $("says").textContent = percent(probability);
  const next = probabilities[order[1]];
  $("runner-up").textContent =
    next < 0.001 ? "nothing else above 0.1\u00a0%" : `then ${model.classes[order[1]]}, ${percent(next)}`;
  const [height, width, channels] = model.shape;
  $("seen-text").textContent = `Your picture, converted to ${width}×${height} ${channels ? "pixels" : "grey values"}.`;
  $("inside-empty").hidden = true;
  $("figures").hidden = false;
  paint.image($("seen"), answer.image);
  layers(answer.layers);
  last = answer;
}

function explained(answer) {
  requestId = answer.request_id;
  const [{ class: best, probability }] = answer.predictions;
  $("status").textContent = `${best}, probability ${percent(probability)}`;
  $("relies").classList.remove("stale");
  rests();
  $("labels").disabled = false;
}

/** Build one figure for each convolution, and draw its maps. */
function layers(found) {
  const names = found.map((layer) => `${layer.name} ${layer.values.length}`).join();
  if ($("layers").dataset.names !== names) {
    $("layers").dataset.names = names;
    $("layers").replaceChildren(
      ...found.map((layer) => {
        const figure = document.createElement("figure");
        const maps = make("div", "maps");
        maps.setAttribute("role", "img");
        maps.style.setProperty("--columns", Math.min(8, layer.values.length));
        maps.append(...layer.values.map(() => document.createElement("canvas")));
        figure.append(make("h3", "", layer.name), maps, document.createElement("figcaption"));
        return figure;
      }),
    );
  }
  found.forEach((layer, place) => {
    const [, maps, caption] = $("layers").children[place].children;
    const [rows, columns] = [layer.values[0].length, layer.values[0][0].length];
    const kernels = `${layer.maps} feature maps of ${columns}×${rows}`;
    maps.setAttribute("aria-label", `Layer ${layer.name}: ${kernels}`);
    caption.textContent =
      layer.values.length < layer.maps
        ? `The first ${layer.values.length} of ${kernels}.`
        : `${kernels}: where each filter finds its pattern.`;
    layer.values.forEach((values, map) => paint.map(maps.children[map], values));
  });
}

function rests() {
  const { drop, step, patch } = last.occlusion;
  paint.occlusion($("occlusion"), drop, step, last.image);
  const side = (length) => `${(100 * patch) / length}%`;
  $("patch").style.width = side(last.image[0].length);
  $("patch").style.height = side(last.image.length);
  $("occlusion-text").textContent =
    `A patch of ${patch}×${patch} pixels moves over the picture. ` + covered(Math.max(...drop.flat()), "in the worst place");
}

/** Say what becomes of the answer when the patch covers a place. */
function covered(drop, where) {
  const [{ probability }] = last.predictions;
  if (Math.abs(drop) < 0.0005) return `The answer stays the same ${where}.`;
  const share = percent(Math.min(1, Math.max(0, probability - drop)));
  return `${last.occlusion.answer} ${drop > 0 ? "falls" : "rises"} from ${percent(probability)} to ${share} ${where}.`;
}

/** Show the patch under the pointer, and what it changes. */
function cover(event) {
  if (!last?.occlusion) return;
  const box = $("occlusion").getBoundingClientRect();
  const { drop, step } = last.occlusion;
  const [height, width] = [last.image.length, last.image[0].length];
  const at = (share, length) => step * Math.min(Math.floor((share * length) / step), Math.ceil(length / step) - 1);
  const column = at(Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width)), width);
  const row = at(Math.min(0.9999, Math.max(0, (event.clientY - box.top) / box.height)), height);
  $("patch").style.left = `${(100 * (column + 0.5)) / width}%`;
  $("patch").style.top = `${(100 * (row + 0.5)) / height}%`;
  $("patch").hidden = false;
  $("occlusion-text").textContent = covered(drop[row / step][column / step], "when this place is covered");
}

/** The picture changes: feedback and maps belong to an earlier one. */
function unexplained() {
  requestId = null;
  answers++;
  $("labels").disabled = true;
  $("thanks").textContent = "";
  $("relies").classList.add("stale");
  $("patch").hidden = true;
  $("occlusion-text").textContent = "Lift the pen for a moment.";
  for (const button of $("choices").querySelectorAll("[aria-pressed]")) button.setAttribute("aria-pressed", "false");
}

function forget() {
  unexplained();
  last = null;
  $("class").textContent = "?";
  $("class").classList.add("none");
  $("class").classList.remove("long");
  $("says").textContent = "Nothing to read yet";
  $("runner-up").textContent = $("status").textContent = "";
  $("inside-empty").hidden = false;
  $("figures").hidden = true;
  if (model) bars();
}

function tools() {
  $("undo").disabled = $("clear").disabled = board.empty;
}

// --- feedback -------------------------------------------------------------------------------------------------

function choices() {
  $("choices").classList.toggle("short", model.classes.every((name) => name.length <= 3));
  if (model.classes.length <= ALL) {
    $("choices").replaceChildren(
      ...model.classes.map((name) => {
        const button = make("button", "choice", name);
        button.type = "button";
        button.setAttribute("aria-pressed", "false");
        button.addEventListener("click", () => tell(name, button));
        return button;
      }),
    );
    return;
  }
  const select = document.createElement("select");
  select.setAttribute("aria-label", "Class");
  select.append(...model.classes.map((name) => new Option(name, name)));
  const send = make("button", "", "Send");
  send.type = "button";
  send.addEventListener("click", () => tell(select.value));
  $("choices").replaceChildren(select, send);
}

async function tell(label, button) {
  const about = requestId;
  if (!about) return;
  try {
    await service.feedback(about, label);
    if (about !== requestId) return;
    for (const each of $("choices").querySelectorAll("[aria-pressed]")) each.setAttribute("aria-pressed", each === button);
    $("thanks").textContent = `Thank you. The service keeps the label ${label} with this answer.`;
  } catch (refusal) {
    report(refusal);
  }
}

// --- other controls -------------------------------------------------------------------------------------------

$("undo").addEventListener("click", () => board.undo());
$("clear").addEventListener("click", () => {
  board.clear();
  $("pad").focus({ focusVisible: false });
});
$("colour").addEventListener("input", () => (board.colour = $("colour").value));
for (const kind of ["pointermove", "pointerdown"]) $("occlusion").addEventListener(kind, cover);
$("occlusion").addEventListener("pointerleave", () => {
  $("patch").hidden = true;
  if (last?.occlusion) rests();
});
$("feedback").addEventListener("submit", (event) => event.preventDefault());
onKey(() => load().then(scheduleRest));
$("report").addEventListener("click", async (event) => {
  if (!service.hasKey()) return; // a link cannot send the key
  event.preventDefault();
  try {
    const address = URL.createObjectURL(await service.report());
    Object.assign(document.createElement("a"), { href: address, download: `${model.model}-${model.version}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (refusal) {
    report(refusal);
  }
});

async function open(file) {
  if (!file) return;
  try {
    drawing++;
    await board.show(file);
    notice("");
  } catch {
    notice(`The browser cannot read ${file.name || "this file"} as a picture.`);
  }
}

$("file").addEventListener("change", () => {
  open($("file").files[0]);
  $("file").value = "";
});
let inside = 0; // elements that the dragged picture is over
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    inside = kind === "drop" ? 0 : inside + (kind === "dragenter") - (kind === "dragleave");
    $("board").classList.toggle("over", inside > 0);
    if (kind === "drop") open(event.dataTransfer.files[0]);
  });
document.addEventListener("paste", (event) => open(event.clipboardData?.files[0]));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  board.redraw();
  if (!last) return;
  layers(last.layers);
  if (last.occlusion) rests();
});

load();
