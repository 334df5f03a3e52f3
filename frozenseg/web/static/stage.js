// The picture: fits the current image or result into its frame, and tells what is under the pointer.

import { scoreText, shareText } from "./legend.js";
import { Drawing } from "./view.js";

const FONT_SIZE = 13; // CSS pixels

export class Stage {
  constructor({ frame, canvas, empty, tip }, onHover) {
    Object.assign(this, { frame, canvas, empty, tip });
    this.drawing = undefined;
    this.picture = undefined; // an image without a result
    this.options = { highlighted: undefined, names: true };
    new ResizeObserver(() => this.paint()).observe(frame);
    canvas.addEventListener("pointermove", (event) => onHover(this.hover(event)));
    canvas.addEventListener("pointerleave", () => {
      tip.hidden = true;
      onHover(undefined);
    });
  }

  /** Shows segments of a result. */
  showResult(picture, result, segments) {
    this.result = result;
    this.picture = picture;
    this.drawing = new Drawing(picture, result, segments);
    const names = segments.map(({ name }) => name).join(", ") || "none";
    this.canvas.setAttribute("aria-label", `${segments.length} segments: ${names}`);
    this.paint();
  }

  /** Shows an image without a result, or a sentence instead of one. */
  showPicture(picture, sentence) {
    this.drawing = undefined;
    this.picture = picture;
    this.empty.textContent = sentence;
    this.canvas.setAttribute("aria-label", picture ? "The image, not segmented yet" : sentence);
    this.paint();
  }

  paint() {
    const { canvas, frame, picture } = this;
    this.empty.hidden = Boolean(picture);
    canvas.hidden = !picture;
    if (!picture) return;
    const scale = Math.min(
      frame.clientWidth / picture.naturalWidth, frame.clientHeight / picture.naturalHeight,
    );
    const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
    const density = window.devicePixelRatio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.max(1, Math.round(width * density));
    canvas.height = Math.max(1, Math.round(height * density));
    if (this.drawing) {
      this.drawing.paint(canvas, { ...this.options, fontSize: FONT_SIZE * density });
    } else {
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    }
  }

  /** The segment under the pointer, whose name, score and share the tip shows. */
  hover(event) {
    if (!this.drawing) return undefined;
    const box = this.canvas.getBoundingClientRect();
    const { height, width } = this.result;
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const segment = this.drawing.segmentAt((x / box.width) * width, (y / box.height) * height);
    this.tip.hidden = !segment;
    if (segment) {
      const parts = [segment.name, scoreText(segment.score), shareText(segment.area, height * width)];
      this.tip.textContent = parts.filter(Boolean).join(" · ");
      const room = this.frame.clientWidth - this.tip.offsetWidth;
      const left = this.canvas.offsetLeft + x + 14;
      this.tip.style.left = `${Math.max(0, Math.min(left, room))}px`;
      this.tip.style.top = `${Math.max(0, this.canvas.offsetTop + y - 34)}px`;
    }
    return segment;
  }
}
