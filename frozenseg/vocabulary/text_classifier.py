"""A vocabulary as rows of CLIP's text embedding space, and class logits from these rows."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from frozenseg.towers.roles import TextEncoder
from frozenseg.vocabulary.checks import CountTokens, check_distinct, warn_about_cut_phrases
from frozenseg.vocabulary.row_cache import cache_path, read_rows, write_rows
from frozenseg.vocabulary.templates import VILD_TEMPLATES
from frozenseg.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PROMPTS_PER_BATCH = 256


@dataclass(frozen=True, eq=False)
class TextClassifier:
    """One normalised row per synonym; a class scores as its best synonym does.

    Args:
        embeddings: (S, D), of unit length.
        class_ids: (S,) int64, the class of each row; 0 to K - 1 all occur.
        num_classes: K, without void; 0: counted.
    """

    embeddings: Tensor
    class_ids: Tensor
    num_classes: int = 0

    def __post_init__(self) -> None:
        if self.embeddings.shape[:1] != self.class_ids.shape or not len(self.class_ids):
            raise ValueError(
                f"a text classifier needs one class id per row: got embeddings "
                f"{tuple(self.embeddings.shape)} and class ids {tuple(self.class_ids.shape)}"
            )
        if not self.num_classes:
            object.__setattr__(self, "num_classes", int(self.class_ids.max()) + 1)

    def to(self, device: torch.device | str) -> "TextClassifier":
        """Returns a copy on another device."""
        return replace(
            self, embeddings=self.embeddings.to(device), class_ids=self.class_ids.to(device)
        )

    def for_image(self, clip_map: Tensor | None) -> "TextClassifier":
        """Returns itself: the rows depend on the words alone."""
        return self

    def for_regions(self) -> "TextClassifier":
        """Returns itself: proposer and region classifier share a CLIP space."""
        return self

    def logits(
        self, embeddings: Tensor, logit_scale: Tensor | float, *, void: Tensor | None = None
    ) -> Tensor:
        """Returns scaled cosines of embeddings with every class, and with void if it is given.

        Args:
            embeddings: (..., Q, D) of regions or queries, of any length.
            logit_scale: the factor itself, already exponentiated and clamped.
            void: (D,) row of the last column, of any length.

        Returns:
            (..., Q, K) logits, or K + 1 columns with void; gradient flows to all three arguments.
        """
        cosines = best_cosines(
            embeddings, self.embeddings, self.class_ids, num_classes=self.num_classes, void=void
        )
        return logit_scale * cosines


def best_cosines(
    embeddings: Tensor,
    rows: Tensor,
    class_ids: Tensor,
    *,
    num_classes: int,
    void: Tensor | None = None,
) -> Tensor:
    """Returns the cosine of each embedding with each class's best row, and with void last.

    Args:
        embeddings: (..., Q, D) of any length.
        rows: (S, D) of unit length.
        class_ids: (S,) int64, the class of each row.
        num_classes: K.
        void: (D,) row of the last column, of any length.

    Returns:
        (..., Q, K) cosines, or K + 1 columns with void.
    """
    if void is not None:
        rows = torch.cat([rows, F.normalize(void, dim=-1)[None]])
        class_ids = torch.cat([class_ids, class_ids.new_full((1,), num_classes)])
        num_classes += 1
    embeddings = F.normalize(embeddings, dim=-1)
    cosines = embeddings @ rows.to(embeddings.dtype).t()
    best = cosines.new_full((*cosines.shape[:-1], num_classes), -torch.inf)
    return best.scatter_reduce(
        -1, class_ids.expand_as(cosines), cosines, "amax", include_self=False
    )


def embed_vocabulary(
    encoder: TextEncoder,
    vocabulary: Vocabulary,
    *,
    templates: Sequence[str] = VILD_TEMPLATES,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TextClassifier:
    """Embeds a vocabulary with a CLIP tower.

    Args:
        encoder: the tower.
        vocabulary: the classes.
        templates: sentences with one ``{}``; the published ones by default.
        cache_dir: folder to keep the rows in; None does not keep them.
        progress: called with the number of prompts encoded so far and in total.

    Raises:
        UserError: two classes have equal embeddings.
    """
    return build_text_classifier(
        encoder.encode_text,
        vocabulary,
        templates=templates,
        cache_dir=cache_dir,
        tower_fingerprint=encoder.fingerprint,
        width=encoder.embed_dim,
        count_tokens=encoder.count_tokens,
        progress=progress,
    )


def build_text_classifier(
    encode_text: Callable[[list[str]], Tensor],
    vocabulary: Vocabulary,
    *,
    templates: Sequence[str] = VILD_TEMPLATES,
    cache_dir: Path | None = None,
    tower_fingerprint: str = "",
    width: int | None = None,
    count_tokens: CountTokens | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TextClassifier:
    """Embeds every synonym in every template and averages the templates (FC-CLIP, sec. 3.2).

    Args:
        encode_text: prompts to (N, D) embeddings of any length.
        vocabulary: the classes.
        templates: sentences with one ``{}``.
        cache_dir: folder to keep the rows in; None does not keep them.
        tower_fingerprint: distinguishes text encoders in the cache.
        width: D, which cached rows must have; None accepts any.
        count_tokens: number of tokens of a prompt and how many are read, to warn about long names.
        progress: called with the number of prompts encoded so far and in total.

    Raises:
        UserError: two classes have equal embeddings.
    """
    words = [word for synonyms in vocabulary.synonyms for word in synonyms]
    class_ids = [index for index, synonyms in enumerate(vocabulary.synonyms) for _ in synonyms]
    if count_tokens is not None:
        warn_about_cut_phrases(words, templates, count_tokens)
    path = None
    if cache_dir is not None:
        path = cache_path(cache_dir, words, templates, tower_fingerprint)
    embeddings = None if path is None else read_rows(path, num_rows=len(words), width=width)
    if embeddings is None:
        logger.info("encoding %d class names in %d prompts each", len(words), len(templates))
        embeddings = embed_words(encode_text, words, templates, progress)
        if path is not None:
            write_rows(embeddings, path)
    check_distinct(vocabulary, embeddings)
    return TextClassifier(embeddings, torch.tensor(class_ids, device=embeddings.device))


@torch.no_grad()
def embed_words(
    encode_text: Callable[[list[str]], Tensor],
    words: list[str],
    templates: Sequence[str] = VILD_TEMPLATES,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Returns (S, D) float32: templates are normalised, averaged and normalised again.

    Args:
        encode_text: prompts to (N, D) embeddings of any length.
        words: class names or synonyms, each one string.
        templates: sentences with one ``{}``.
        progress: called with the number of prompts encoded so far and in total.
    """
    rows: list[Tensor] = []
    words_per_batch = max(1, PROMPTS_PER_BATCH // len(templates))
    for start in range(0, len(words), words_per_batch):
        batch = words[start : start + words_per_batch]
        prompts = [template.format(word) for word in batch for template in templates]
        encoded = F.normalize(encode_text(prompts).float(), dim=-1)
        rows.append(
            F.normalize(encoded.unflatten(0, (len(batch), len(templates))).mean(dim=1), dim=-1)
        )
        if progress is not None:
            progress((start + len(batch)) * len(templates), len(words) * len(templates))
    return torch.cat(rows)
