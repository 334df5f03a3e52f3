"""What the page asks of a model: check class names, segment an image."""

import time
from typing import TYPE_CHECKING, cast

from frozenseg.data.shapes import all_names
from frozenseg.errors import UserError
from frozenseg.io.text import quoted
from frozenseg.runtime.memory import memory_gate
from frozenseg.vocabulary.vocabulary import Vocabulary
from frozenseg.web.examples import example_scenes
from frozenseg.web.limits import DEFAULT_LIMITS, Limits
from frozenseg.web.records import result_record
from frozenseg.web.uploads import Upload
from frozenseg.web.words import check_words, read_words

if TYPE_CHECKING:
    from frozenseg.inference.segmenter import Segmenter, Task

_NEWEST_WEIGHT = 0.3  # of the last image in the mean duration


class Service:
    """A model behind the page.

    Args:
        segmenter: the model. Its text rows are no longer cached on disk: what visitors type must
            not fill it.
        name: of the model, as the page shows it.
        miniature: the model knows the shapes world only; the page says so, and offers its scenes.
        limits: what a visitor may ask.
    """

    def __init__(
        self,
        segmenter: "Segmenter",
        *,
        name: str,
        miniature: bool,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        segmenter.cache_dir = None
        self.segmenter, self.limits = segmenter, limits
        self.name, self.miniature = name, miniature
        self.tasks = sorted(segmenter.model.proposer.tasks)
        self.examples = example_scenes() if miniature else []
        self.seconds = 1.0  # per image, a moving mean
        self._known = frozenset(all_names()) if miniature else None

    def read(self, words: str) -> Vocabulary:
        """The classes of a text; see :func:`read_words`."""
        return read_words(words, self.limits)

    def check(self, words: str) -> dict[str, object]:
        """What the page shows about a text; see :func:`check_words`."""
        training = self.segmenter.training
        return check_words(words, self.limits, training=training, known=self._known)

    def check_task(self, task: str) -> None:
        """Raises a ``UserError`` for a task that the model does not support."""
        if task not in self.tasks:
            raise UserError(f"there is no task {quoted(task)}: choose {' or '.join(self.tasks)}")

    def segment(self, upload: Upload, vocabulary: Vocabulary, task: str) -> dict[str, object]:
        """Segments an image; see :func:`result_record`, with ``original_size`` and ``seconds``.

        Args:
            upload: the image.
            vocabulary: the classes.
            task: one of ``tasks``.

        Raises:
            UserError: two classes have equal text embeddings, or there is not enough memory.
        """
        start = time.perf_counter()
        with memory_gate("the image", advice="make it smaller, or name fewer classes"):
            found = self.segmenter(upload.pixels, vocabulary, task=cast("Task", task))
            seen = found.vocabulary.seen_by(self.segmenter.training)
            record = result_record(found, seen)
        taken = time.perf_counter() - start
        self.seconds += _NEWEST_WEIGHT * (taken - self.seconds)
        return {**record, "original_size": upload.original_size, "seconds": round(taken, 2)}
