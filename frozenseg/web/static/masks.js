// Masks of a result: compressed COCO run lengths, and which segment owns each pixel.

/** The runs of a compressed RLE: outside and inside in turn, column by column. */
export function decodeRuns(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let code = 0x20;
    while (code & 0x20) {
      code = counts.charCodeAt(at) - 48;
      value |= (code & 0x1f) << shift;
      at += 1;
      shift += 5;
    }
    if (code & 0x10) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2]; // stored as a difference
    runs.push(value);
  }
  return runs;
}

/** Writes `value` to all pixels of a mask; `map` is row by row. */
export function fill(map, [height, width], runs, value) {
  let pixel = 0;
  runs.forEach((run, index) => {
    if (index % 2) {
      for (let place = pixel; place < pixel + run; place += 1) {
        map[(place % height) * width + Math.floor(place / height)] = value;
      }
    }
    pixel += run;
  });
}

/** The number of each pixel's segment, counted from 1; 0 for none. Earlier segments are in front. */
export function ownersOf(segments, size) {
  const owners = new Uint16Array(size[0] * size[1]);
  for (let number = segments.length; number > 0; number -= 1) {
    fill(owners, size, decodeRuns(segments[number - 1].segmentation.counts), number);
  }
  return owners;
}

/** The centre [x, y] and the side of the largest square inside each segment, where names fit. */
export function largestSquares(owners, [height, width], count) {
  const best = Array.from({ length: count + 1 }, () => ({ side: 0, x: 0, y: 0 }));
  let above = new Uint16Array(width);
  let here = new Uint16Array(width);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const pixel = y * width + x;
      const owner = owners[pixel];
      const grows = x > 0 && y > 0 && owner === owners[pixel - 1]
        && owner === owners[pixel - width] && owner === owners[pixel - width - 1];
      here[x] = grows ? 1 + Math.min(here[x - 1], above[x], above[x - 1]) : 1;
      if (here[x] > best[owner].side) {
        const side = here[x];
        best[owner] = { side, x: x + 1 - side / 2, y: y + 1 - side / 2 };
      }
    }
    [above, here] = [here, above];
  }
  return best.slice(1);
}
