// The images of this visit: where they come from, and the strip that chooses one.

const MOST_IMAGES = 20;

/** Calls onFiles(files) for images that are chosen, dropped anywhere, or pasted. */
export function watchFiles(input, zone, onFiles) {
  input.addEventListener("change", () => {
    onFiles([...input.files]);
    input.value = ""; // the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) onFiles(files);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return; // text, for the class names
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragover");
      if (kind === "drop") onFiles([...event.dataTransfer.files]);
    });
  }
}

/** Images in order, one of which is the current one. */
export class Images {
  constructor(strip, onSelect) {
    this.strip = strip;
    this.onSelect = onSelect;
    this.all = [];
    this.current = undefined;
  }

  /**
   * Adds an image and selects it. An example without a result makes room for it; so does the oldest
   * image when there are too many.
   */
  add(blob, name, { example = false } = {}) {
    const url = URL.createObjectURL(blob);
    const image = { blob, name, url, example, result: undefined, error: "" };
    this.all = this.all.filter((each) => each.result || !each.example);
    this.all.push(image);
    while (this.all.length > MOST_IMAGES) URL.revokeObjectURL(this.all.shift().url);
    this.select(image);
    return image;
  }

  select(image) {
    this.current = image;
    this.render();
    this.onSelect(image);
  }

  render() {
    const focused = this.strip.contains(document.activeElement);
    this.strip.replaceChildren(...this.all.map((image) => this.thumbnail(image)));
    if (focused) this.strip.querySelector("[aria-pressed=true]").focus();
  }

  thumbnail(image) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thumbnail";
    button.classList.toggle("done", Boolean(image.result));
    button.classList.toggle("failed", Boolean(image.error));
    button.setAttribute("aria-pressed", String(image === this.current));
    button.title = image.error || image.name;
    const picture = new Image(56, 56);
    picture.src = image.url;
    picture.alt = image.name;
    button.append(picture);
    button.addEventListener("click", () => this.select(image));
    return button;
  }
}
