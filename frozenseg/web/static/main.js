// The page: settings in its address, images in a strip, one result at a time.

import { cocoText, idMapPng } from "./exports.js";
import { Images, watchFiles } from "./images.js";
import { fillLegend, markLegend } from "./legend.js";
import { segment } from "./server.js";
import { Stage } from "./stage.js";
import { watchWords } from "./words.js";

const $ = (id) => document.getElementById(id);
const settings = JSON.parse($("settings").textContent);
const score = $("score");
const hidden = new Set(); // ids of segments of the current result that the visitor hid
let highlighted;
let running; // the AbortController of the requests under way
let example; // index of the example among the images, if there is one

const images = new Images($("strip"), showImage);
const stage = new Stage(
  { frame: $("stage"), canvas: $("canvas"), empty: $("empty"), tip: $("tip") }, highlight,
);
const checkNow = watchWords(
  { field: $("words"), message: $("words-check"), chips: $("chips") },
  (valid) => { $("run").disabled = !valid && !running; },
);

// ---- the current image -------------------------------------------------------------------------

async function showImage(image) {
  hidden.clear();
  highlighted = undefined;
  const picture = new Image();
  picture.src = image.result ? image.result.image : image.url;
  const readable = await picture.decode().then(() => true, () => false);
  if (image !== images.current) return;
  image.picture = picture;
  if (image.result) {
    score.disabled = image.result.task === "semantic"; // has no scores
    fillLegend($("legend"), image.result, candidates(), { highlight, toggle });
    refresh();
    return;
  }
  $("legend").replaceChildren();
  $("summary").textContent = "Not segmented yet.";
  enableResultButtons(false);
  stage.showPicture(readable ? picture : undefined, image.error || "There is no preview of this file.");
}

/** The segments above the confidence, and of these the ones that are not hidden. */
function candidates() {
  const { segments_info: segments, task } = images.current.result;
  return task === "semantic" ? segments : segments.filter((each) => each.score >= Number(score.value));
}

function shown() {
  return candidates().filter(({ id }) => !hidden.has(id));
}

function refresh() {
  const { result, picture } = images.current;
  const segments = shown();
  stage.options = { highlighted, names: $("names").checked };
  stage.showResult(picture, result, segments);
  markLegend($("legend"), candidates(), hidden, highlighted);
  enableResultButtons(true);
  $("summary").textContent = summary(result, segments.length);
}

function summary({ task, segments_info: all, seconds, height, width, original_size: original }, count) {
  const number = count === all.length ? `${count}` : `${count} of ${all.length}`;
  const reduced = original[0] === height && original[1] === width ? ""
    : `, reduced from ${original[1]} × ${original[0]}`;
  const advice = count ? "" : " Try other class names, synonyms, or a lower confidence.";
  const noun = all.length === 1 ? "segment" : "segments";
  return `${number} ${task} ${noun} in ${seconds} s, ${width} × ${height} pixels${reduced}.${advice}`;
}

function enableResultButtons(enabled) {
  for (const button of document.querySelectorAll("[data-export], #all")) button.disabled = !enabled;
  const overlapping = images.current?.result?.task === "instance"; // has no id map
  document.querySelector("[data-export=ids]").disabled = !enabled || overlapping;
}

function highlight(each) {
  if (each === highlighted || !images.current?.result) return;
  highlighted = shown().includes(each) ? each : undefined;
  stage.options.highlighted = highlighted;
  stage.paint();
  markLegend($("legend"), candidates(), hidden, highlighted);
}

function toggle({ id }) {
  if (!hidden.delete(id)) hidden.add(id);
  highlighted = undefined;
  refresh();
}

// ---- segmenting --------------------------------------------------------------------------------

async function run() {
  const wanted = { words: $("words").value, task: task() };
  const key = JSON.stringify(wanted);
  const current = images.current;
  const waiting = images.all.filter((image) => image.key !== key);
  if (!current) return say("Choose an image first.", true);
  if (!waiting.length) waiting.push(current);
  waiting.sort((a, b) => (b === current) - (a === current)); // the one in view comes first
  running = new AbortController();
  $("run").textContent = "Stop";
  for (const [index, image] of waiting.entries()) {
    if (running.signal.aborted) break;
    const part = waiting.length > 1 ? `Image ${index + 1} of ${waiting.length}: ` : "";
    await segmentOne(image, wanted, key, part);
  }
  running = undefined;
  $("run").textContent = "Segment";
  const failed = waiting.filter(({ error }) => error);
  if (failed.length) say(failed.map(({ name, error }) => `${name}: ${error}`).join(" "), true);
}

async function segmentOne(image, wanted, key, part) {
  const { signal } = running;
  say(`${part}Sending the image.`);
  const onPlace = ({ place, seconds }) => say(place
    ? `${part}Number ${place + 1} in line, about ${Math.ceil(seconds)} s.` : `${part}Segmenting.`);
  try {
    if (image.blob.size > settings.uploadBytes) {
      throw new Error(`The file has more than ${settings.uploadBytes / 2 ** 20} MB: make it smaller.`);
    }
    const result = await segment(image.blob, wanted, onPlace, signal);
    Object.assign(image, { result, key, error: "" });
    if (image === images.current) setScore(link.get("score") ?? result.shown_score);
    say(`${part}Done.`);
    $("stage").scrollIntoView({ block: "nearest" }); // below the controls on narrow screens
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (!stopped) Object.assign(image, { result: undefined, error: error.message });
    say(stopped ? "Stopped." : error.message, !stopped);
  }
  images.render();
  if (image === images.current) await showImage(image);
}

function task() {
  return document.querySelector("input[name=task]:checked").value;
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// ---- files -------------------------------------------------------------------------------------

const EXPORTS = {
  overlay: () => new Promise((done) => {
    stage.drawing.overlay($("names").checked).toBlob(done);
  }),
  ids: () => idMapPng(images.current.result, shown()),
  coco: () => new Blob(
    [cocoText(images.current.result, shown(), images.current.name)], { type: "application/json" },
  ),
};
const ENDINGS = { overlay: "_overlay.png", ids: "_ids.png", coco: "_coco.json" };

async function download(kind) {
  const url = URL.createObjectURL(await EXPORTS[kind]());
  const name = images.current.name.replace(/\.[^.]*$/, "") + ENDINGS[kind];
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// ---- the address, which restores words and settings ---------------------------------------------

const link = new URLSearchParams(window.location.search);

function updateLink() {
  const values = { words: $("words").value, task: task() };
  if (link.has("score")) values.score = score.value; // chosen, not a task's default
  if (example !== undefined) values.example = example;
  if (!$("names").checked) values.names = "0";
  history.replaceState(null, "", `?${new URLSearchParams(values)}`);
}

function setScore(value) {
  score.value = value;
  $("score-value").textContent = Number(score.value).toFixed(2);
}

function restore() {
  const wanted = [...document.querySelectorAll("input[name=task]")];
  const chosen = wanted.find(({ value }) => value === link.get("task"));
  if (chosen) chosen.checked = true;
  $("names").checked = link.get("names") !== "0";
  setScore(link.get("score") ?? 0);
  $("words").value = link.get("words") ?? "";
  if (!settings.examples.length) return;
  const index = Number(link.get("example") ?? 0);
  chooseExample(settings.examples[index] === undefined ? 0 : index);
}

async function chooseExample(index) {
  const words = $("words").value.trim();
  if (!words || settings.examples.includes(words)) $("words").value = settings.examples[index];
  checkNow();
  const response = await fetch(`examples/${index}.png`);
  example = index;
  images.add(await response.blob(), `example_${index + 1}.png`, { example: true });
}

// ---- wiring ------------------------------------------------------------------------------------

watchFiles($("files"), $("drop"), (files) => {
  example = undefined;
  for (const file of files) images.add(file, file.name);
});
for (const button of document.querySelectorAll(".example")) {
  button.addEventListener("click", () => chooseExample(Number(button.dataset.index)).then(updateLink));
}
$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else run();
});
$("controls").addEventListener("change", updateLink);
score.addEventListener("input", () => {
  setScore(score.value);
  link.set("score", score.value);
  if (!images.current?.result) return;
  fillLegend($("legend"), images.current.result, candidates(), { highlight, toggle });
  refresh();
});
score.addEventListener("change", updateLink);
$("names").addEventListener("change", () => {
  updateLink();
  if (images.current?.result) refresh();
});
$("all").addEventListener("click", () => {
  hidden.clear();
  refresh();
});
for (const button of document.querySelectorAll("[data-export]")) {
  button.addEventListener("click", () => download(button.dataset.export));
}
$("link").addEventListener("click", async () => {
  updateLink();
  try {
    await navigator.clipboard.writeText(window.location.href);
    say("Link copied: it restores class names and settings.");
  } catch { // browsers refuse, or have no clipboard, without https
    say("Copy the link from the address bar: it restores class names and settings.");
  }
});
restore();
checkNow();
