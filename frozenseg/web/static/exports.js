// Files of the segments that are shown: a COCO data set, a 16-bit id map.

import { decodeRuns, fill } from "./masks.js";

/** A COCO data set of one image, which pycocotools reads. */
export function cocoText(result, segments, name) {
  const { height, width, categories } = result;
  const annotations = segments.map((segment, index) => {
    const { color, seen, ...kept } = segment;
    return { ...kept, id: index + 1, image_id: 1, iscrowd: 0 };
  });
  const images = [{ id: 1, file_name: name, height, width }];
  return JSON.stringify({ images, categories, annotations }, null, 1);
}

/** A 16-bit grey PNG with the id of each pixel's segment, 0 for none. */
export async function idMapPng(result, segments) {
  const { height, width } = result;
  const ids = new Uint16Array(height * width);
  for (const segment of segments) {
    fill(ids, [height, width], decodeRuns(segment.segmentation.counts), segment.id);
  }
  const rows = new DataView(new ArrayBuffer(height * (1 + 2 * width))); // a filter byte per row
  ids.forEach((id, pixel) => {
    const row = Math.floor(pixel / width);
    rows.setUint16(row * (1 + 2 * width) + 1 + 2 * (pixel % width), id);
  });
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 16); // bits; all other fields are 0: grey, deflate, not interlaced
  const parts = [
    new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", await deflated(rows.buffer)),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts, { type: "image/png" });
}

async function deflated(buffer) {
  const stream = new Blob([buffer]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(kind, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc32(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
