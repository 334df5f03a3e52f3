#!/usr/bin/env python
"""Time and memory that a vocabulary costs: its rows, a second start, its class logits.

    OMP_NUM_THREADS=1 python tools/benchmarks/vocabulary.py --classes lvis_v1
    OMP_NUM_THREADS=1 python tools/benchmarks/vocabulary.py --clip convnext_large_d_320 \\
        --random-weights --classes 10000

Only the words of one batch are encoded, because every batch costs the same and they follow each
other; the rows that the second start finds in its cache are random. Memory is the peak beyond
tower and vocabulary.
"""

import argparse
import random
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from frame import Way, run_once
from rich.console import Console
from rich.table import Table
from torch import Tensor

from frozenseg.towers.clip import ClipTower
from frozenseg.towers.loading import RANDOM, load_clip
from frozenseg.vocabulary import VILD_TEMPLATES, Vocabulary, builtin_vocabulary, embed_vocabulary
from frozenseg.vocabulary.row_cache import cache_path, write_rows
from frozenseg.vocabulary.text_classifier import PROMPTS_PER_BATCH, TextClassifier, embed_words

NUM_QUERIES = 250
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def measure(clip: ClipTower, vocabulary: Vocabulary) -> dict[str, Way]:
    """Returns the cost of encoding one batch, of a start with cached rows, and of class logits."""
    words = [word for synonyms in vocabulary.synonyms for word in synonyms]
    batch = words[: PROMPTS_PER_BATCH // len(VILD_TEMPLATES)]
    _, encoding = run_once(lambda: embed_words(clip.encode_text, batch))
    clip.fingerprint  # noqa: B018 (loading trained weights computes it)
    with tempfile.TemporaryDirectory() as folder:
        rows = F.normalize(torch.randn(len(words), clip.embed_dim), dim=-1)
        write_rows(rows, cache_path(Path(folder), words, VILD_TEMPLATES, clip.fingerprint))
        found: list[TextClassifier] = []

        def second_start() -> Tensor:
            found.append(embed_vocabulary(clip, vocabulary, cache_dir=Path(folder)))
            return found[0].embeddings

        cached, start = run_once(second_start)
    assert cached.equal(rows), "the rows came from the cache"
    queries = torch.randn(NUM_QUERIES, clip.embed_dim)
    _, logits = run_once(lambda: found[0].logits(queries, 100.0))
    return {
        f"encoding {len(batch)} words": encoding,
        f"second start, {len(words)} words": start,
        f"class logits of {NUM_QUERIES} masks": logits,
    }


def random_words(count: int) -> Vocabulary:
    """Returns ``count`` classes of one random word each."""
    draw = random.Random(0)
    words: set[str] = set()
    while len(words) < count:
        words.add("".join(draw.choices(LETTERS, k=draw.randint(4, 12))))
    return Vocabulary(tuple((word,) for word in sorted(words)), (True,) * count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", default="shapes", help="as MODEL.FC_CLIP.CLIP_MODEL_NAME")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument(
        "--classes", default="lvis_v1", help="a class list, or how many random words"
    )
    options = parser.parse_args()
    chosen = options.classes
    classes = random_words(int(chosen)) if chosen.isdecimal() else builtin_vocabulary(chosen)
    clip = load_clip(options.clip, RANDOM if options.random_weights else "")
    table = Table(f"{len(classes)} classes, {options.clip}", "CPU s", "wall s", "MiB")
    for name, way in measure(clip, classes).items():
        memory = "?" if way.memory_mib is None else f"{way.memory_mib:,.0f}"
        table.add_row(name, f"{way.cpu_seconds:.2f}", f"{way.wall_seconds:.2f}", memory)
    Console().print(table)


if __name__ == "__main__":
    main()
