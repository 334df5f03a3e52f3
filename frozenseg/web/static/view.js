// Draws a result on a canvas: tinted segments, outlines, names; the highlighted one stands out.

import { decodeRuns, fill, largestSquares, ownersOf } from "./masks.js";

const VOID = [18, 22, 30, 150]; // pixels that no shown segment covers
const DIMMED = [18, 22, 30, 170]; // the others while one is highlighted
const OUTLINE = [255, 255, 255, 225];
const TINT = 140; // opacity of a segment's colour, of 255
const HIGHLIGHT_TINT = 70;
const LONG_SIDE = 1024; // small images are enlarged to about this many pixels in the overlay file

export class Drawing {
  /** image: an HTMLImageElement of the result's size; segments: those to draw. */
  constructor(image, result, segments) {
    this.image = image;
    this.size = [result.height, result.width];
    this.segments = segments;
    this.owners = ownersOf(segments, this.size);
    this.squares = largestSquares(this.owners, this.size, segments.length);
    this.tints = new Map(); // by highlighted number
  }

  /** The segment under a point of the image, or undefined. */
  segmentAt(x, y) {
    const [height, width] = this.size;
    if (x < 0 || y < 0 || x >= width || y >= height) return undefined;
    return this.segments[this.owners[Math.floor(y) * width + Math.floor(x)] - 1];
  }

  /** Paints all of it; the canvas has its size already. */
  paint(canvas, { highlighted, names, fontSize }) {
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.image, 0, 0, canvas.width, canvas.height);
    const number = this.segments.indexOf(highlighted) + 1;
    context.drawImage(this.tintOf(number), 0, 0, canvas.width, canvas.height);
    if (names) this.paintNames(context, canvas.width / this.size[1], fontSize, highlighted);
  }

  /** A canvas of the overlay file: the image's size, or a multiple of it for small ones. */
  overlay(names) {
    const [height, width] = this.size;
    const scale = Math.max(1, Math.round(LONG_SIDE / Math.max(height, width)));
    const canvas = Object.assign(document.createElement("canvas"), {
      width: width * scale,
      height: height * scale,
    });
    const fontSize = Math.max(13, 0.02 * Math.max(canvas.width, canvas.height));
    this.paint(canvas, { highlighted: undefined, names, fontSize });
    return canvas;
  }

  tintOf(number) {
    if (!this.tints.has(number)) {
      if (this.tints.size > 8) this.tints.clear();
      this.tints.set(number, this.paintTint(number));
    }
    return this.tints.get(number);
  }

  paintTint(number) {
    const [height, width] = this.size;
    const owners = number ? this.withInFront(number) : this.owners;
    const colors = [VOID, ...this.segments.map(({ color }) => [...color, TINT])].map(packed);
    if (number) {
      colors.fill(packed(DIMMED));
      colors[number] = packed([...this.segments[number - 1].color, HIGHLIGHT_TINT]);
    }
    const outline = packed(OUTLINE);
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let pixel = 0; pixel < owners.length; pixel += 1) {
      const owner = owners[pixel];
      const right = (pixel + 1) % width ? owners[pixel + 1] : owner;
      const below = pixel + width < owners.length ? owners[pixel + width] : owner;
      const edge = owner !== right || owner !== below;
      const drawn = number ? [owner, right, below].includes(number) : true;
      pixels[pixel] = edge && drawn ? outline : colors[owner];
    }
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  withInFront(number) {
    const owners = this.owners.slice();
    fill(owners, this.size, decodeRuns(this.segments[number - 1].segmentation.counts), number);
    return owners;
  }

  /** Names inside their segments; one that would cover another, or has no room, is left out. */
  paintNames(context, scale, fontSize, highlighted) {
    context.font = `600 ${fontSize}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const taken = [];
    const order = this.segments.map((segment, index) => ({ segment, ...this.squares[index] }));
    order.sort((a, b) => (b.segment === highlighted) - (a.segment === highlighted) || b.side - a.side);
    for (const { segment, x, y, side } of order) {
      if (!side || (highlighted && segment !== highlighted)) continue;
      const room = (side * scale) / 2;
      if (room < 0.4 * fontSize) continue;
      const width = context.measureText(segment.name).width + fontSize;
      const height = 1.6 * fontSize;
      const left = clamp(x * scale - width / 2, 2, context.canvas.width - width - 2);
      const boxes = [0, -height, height].filter((shift) => Math.abs(shift) <= room).map((shift) => {
        const top = clamp(y * scale + shift - height / 2, 2, context.canvas.height - height - 2);
        return { left, top, right: left + width, bottom: top + height };
      });
      const box = boxes.find((each) => !taken.some((other) => overlap(each, other)));
      if (!box) continue;
      taken.push(box);
      const { top } = box;
      context.fillStyle = "rgba(16, 20, 28, 0.84)";
      context.strokeStyle = `rgb(${segment.color.join(" ")})`;
      context.lineWidth = Math.max(1.5, fontSize / 9);
      context.beginPath();
      context.roundRect(left, top, width, height, 0.4 * fontSize);
      context.fill();
      context.stroke();
      context.fillStyle = "white";
      context.fillText(segment.name, left + width / 2, top + 0.54 * height);
    }
  }
}

/** A colour as the bytes of a canvas, red first. */
function packed([red, green, blue, alpha]) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}

function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
