// The list of segments: hovering or focusing an entry highlights it, a click hides or shows it.

import { seenMark } from "./words.js";

/** An entry's button for each segment; `actions` has highlight(segment or undefined), toggle(segment). */
export function fillLegend(list, result, segments, actions) {
  const pixels = result.height * result.width;
  list.replaceChildren(...segments.map((segment) => {
    const item = document.createElement("li");
    item.append(entry(segment, pixels, actions));
    return item;
  }));
}

/** Marks the hidden entries and the highlighted one. */
export function markLegend(list, segments, hidden, highlighted) {
  [...list.querySelectorAll("button")].forEach((button, index) => {
    button.setAttribute("aria-pressed", String(!hidden.has(segments[index].id)));
    button.classList.toggle("highlighted", segments[index] === highlighted);
  });
}

/** "0.87", or nothing for results without scores. */
export function scoreText(score) {
  return score === null ? "" : score.toFixed(2);
}

/** "12.3 %" of the image. */
export function shareText(area, pixels) {
  return `${((100 * area) / pixels).toFixed(1)} %`;
}

function entry(segment, pixels, { highlight, toggle }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "entry";
  button.title = "Click to hide or show";
  button.append(swatch(segment.color), text("name", segment.name), seenMark(segment.seen),
    text("number", scoreText(segment.score)), text("number", shareText(segment.area, pixels)));
  button.addEventListener("mouseenter", () => highlight(segment));
  button.addEventListener("mouseleave", () => highlight(undefined));
  button.addEventListener("focus", () => highlight(segment));
  button.addEventListener("blur", () => highlight(undefined));
  button.addEventListener("click", () => toggle(segment));
  return button;
}

function text(className, content) {
  const span = document.createElement("span");
  span.className = className;
  span.textContent = content;
  return span;
}

function swatch(color) {
  const span = document.createElement("span");
  span.className = "swatch";
  span.style.backgroundColor = `rgb(${color.join(" ")})`;
  return span;
}
