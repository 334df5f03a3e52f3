// The two requests of the page. Errors are sentences: `error.message` is shown as it is.

const UNREACHABLE = "The server does not answer: check that it is running, then try again.";

/** What the server says about the class names of a text. */
export async function checkWords(words, signal) {
  const response = await post("check", words, signal);
  return response.json();
}

/**
 * Segments an image; returns the result.
 *
 * onPlace({place, seconds}) is called with the number of images ahead and an estimate of the wait;
 * place 0 means that the model runs.
 */
export async function segment(image, { words, task }, onPlace, signal) {
  const response = await post(`segment?${new URLSearchParams({ words, task })}`, image, signal);
  for await (const line of linesOf(response.body)) {
    const message = JSON.parse(line);
    if (message.error) throw new Error(sentence(message.error));
    if (message.result) return message.result;
    onPlace(message);
  }
  throw new Error("The server stopped before the result was complete: try again.");
}

async function post(address, body, signal) {
  let response;
  try {
    response = await fetch(address, { method: "POST", body, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(UNREACHABLE);
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error ? sentence(error) : "The server is busy: try again in a few seconds.");
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(UNREACHABLE);
    });
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
}

/** The server's sentences start in lower case and have no full stop. */
export function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}
