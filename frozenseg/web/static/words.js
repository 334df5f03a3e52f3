// Checks the class names while they are typed, and shows each class with its marks.

import { checkWords, sentence } from "./server.js";

const PAUSE = 200; // ms without a key stroke before the server is asked

/**
 * Watches the text field. onChange(valid) is called after each check.
 *
 * Returns a function that checks at once.
 */
export function watchWords({ field, message, chips }, onChange) {
  let timer;
  let request = new AbortController();

  async function check() {
    clearTimeout(timer);
    request.abort();
    request = new AbortController();
    const { signal } = request;
    try {
      const { classes, error, note } = await checkWords(field.value, signal);
      if (!signal.aborted) show(classes, error && sentence(error), note);
    } catch (error) {
      if (error.name !== "AbortError") show([], error.message, null);
    }
  }

  function show(classes, error, note) {
    const unseen = classes.filter(({ seen }) => !seen).length;
    const count = `${classes.length} ${classes.length === 1 ? "class" : "classes"}, ${unseen} unseen.`;
    message.textContent = error ?? (note ? `${count} ${note}` : count);
    message.classList.toggle("error", Boolean(error));
    field.setAttribute("aria-invalid", String(Boolean(error)));
    chips.replaceChildren(...classes.map(chip));
    onChange(!error);
  }

  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE);
  });
  return check;
}

function chip({ name, thing, seen }) {
  const item = document.createElement("li");
  item.append(name, seenMark(seen));
  item.className = "chip";
  item.title = `${thing ? "thing" : "stuff"}, ${seen ? "seen" : "never seen"} in training`;
  return item;
}

/** "seen" or "unseen", for a class name. */
export function seenMark(seen) {
  const mark = document.createElement("span");
  mark.className = seen ? "mark" : "mark unseen";
  mark.textContent = seen ? "seen" : "unseen";
  return mark;
}
