"""Segments an image with an exported model: python run_exported.py FOLDER IMAGE "red star" ..."""

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime as ort

folder, image_file, *words = sys.argv[1:]
about = json.loads(Path(folder, "model.json").read_text())
image_part, text_part = (
    ort.InferenceSession(f"{folder}/{name}.onnx") for name in ("image", "text")
)
tokens = about["tokenizer"]
ranks = {tuple(pair): rank for rank, pair in enumerate(tokens["merges"])}


def encoded(prompt):  # CLIP's byte-pair encoding: the pair that was learned first is joined first
    ids = [tokens["start"]]
    for word in re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", prompt.lower()):
        *parts, last = (tokens["bytes"][byte] for byte in word.encode())
        parts.append(last + "</w>")
        while pairs := [
            (ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks
        ]:
            i = min(pairs)[1]
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += (tokens["ids"][part] for part in parts)
    ids = [*ids[: tokens["context_length"] - 1], tokens["end"]]
    return ids + [0] * (tokens["context_length"] - len(ids))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def stretch(old, new, smooth=False):  # (new, old): bilinear weights; smooth also when shrinking
    places = (np.arange(new) + 0.5) * old / new - 0.5
    places = places if smooth else places.clip(0, old - 1)
    weights = (1 - abs(places[:, None] - np.arange(old)) / max(1, smooth * old / new)).clip(0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


prompts = np.array([encoded(each.format(word)) for word in words for each in about["templates"]])
rows = unit(text_part.run(None, {"tokens": prompts})[0]).reshape(
    len(words), len(about["templates"]), -1
)
pixels = np.load(image_file).astype(np.float32).transpose(2, 0, 1)  # (H, W, 3) RGB in 0..255
size = np.array(pixels.shape[1:])
scale = min(about["short_side"] / size.min(), about["long_side"] / size.max())
height, width = (size * scale + 0.5).astype(int)
pixels = (stretch(size[0], height, True) @ pixels @ stretch(size[1], width, True).T).round()
pixels = np.pad(
    pixels, [(0, 0)] + [(0, -side % about["side_multiple"]) for side in (height, width)]
)
probs, masks = image_part.run(
    None,
    {
        "pixels": pixels,
        "size": np.array([height, width]),
        "text_rows": unit(rows.mean(1)),
        "class_ids": np.arange(len(words)),
        "seen": np.array([word in about["seen"] for word in words]),
    },
)
masks = (
    stretch(masks.shape[1], pixels.shape[1])[:height]
    @ masks
    @ stretch(masks.shape[2], pixels.shape[2])[:width].T
)
masks = 1 / (1 + np.exp(-(stretch(height, size[0]) @ masks @ stretch(width, size[1]).T)))
scores, classes = probs.max(1), probs.argmax(1)
keep = (classes < len(words)) & (scores > about["object_threshold"])
scores, classes, masks = scores[keep], classes[keep], masks[keep]
ids = np.zeros(size, np.int32)
owner = (scores[:, None, None] * masks).argmax(0) if len(scores) else ids  # one query per pixel
for query in range(len(scores)):
    won, inside = owner == query, masks[query] >= 0.5
    if (won & inside).any() and won.sum() >= about["overlap_threshold"] * inside.sum():
        ids[won & inside] = query + 1
        print(f"{query + 1}: {words[classes[query]]} {scores[query]:.2f}")
np.save("segments.npy", ids)
