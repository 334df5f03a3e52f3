"""The class names of the shapes world, and which of them are seen in training.

A thing is a shape, a colour and a pattern ("striped red star"; a plain one has no pattern word);
stuff is a textured ground. Training scenes hold the seen classes only, validation scenes hold seen
and unseen ones: new compositions of seen shapes, two shapes never seen (hexagon, arrow) and four
grounds never seen.
"""

from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from frozenseg.vocabulary.vocabulary import Vocabulary

Split = Literal["train", "val"]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (244, 130, 24),
    "yellow": (246, 214, 48),
    "green": (44, 160, 70),
    "cyan": (62, 204, 214),
    "blue": (36, 82, 204),
    "purple": (132, 54, 176),
    "pink": (246, 134, 184),
}
PATTERNS = ("plain", "striped", "dotted")
SEEN_SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent")
UNSEEN_SHAPES = ("hexagon", "arrow")
SHAPES = SEEN_SHAPES + UNSEEN_SHAPES

# Grounds with the colour that drawings give them.
SEEN_STUFF: dict[str, tuple[int, int, int]] = {
    "grass": (84, 140, 56),
    "sand": (222, 196, 142),
    "water": (40, 110, 170),
    "sky": (150, 200, 240),
    "brick": (160, 78, 62),
    "wood": (138, 94, 56),
    "snow": (236, 242, 250),
    "gravel": (132, 130, 128),
}
UNSEEN_STUFF: dict[str, tuple[int, int, int]] = {
    "lava": (80, 24, 16),
    "marble": (206, 200, 190),
    "tiles": (64, 150, 140),
    "carpet": (110, 36, 84),
}
STUFF = (*SEEN_STUFF, *UNSEEN_STUFF)


class Thing(NamedTuple):
    """One composition, for instance a striped red star."""

    shape: str
    color: str
    pattern: str

    @property
    def name(self) -> str:
        words = (self.color, self.shape) if self.pattern == "plain" else self[::-1]
        return " ".join(words)


# All 24 pairs of colour and pattern, ordered so that neighbours differ in both.
_LOOKS = tuple((list(COLORS)[i % 8], PATTERNS[i % 3]) for i in range(24))


def _compositions(shapes: tuple[str, ...], steps: tuple[int, ...]) -> tuple[Thing, ...]:
    """Each shape with the looks at ``steps`` beyond its start, three more for each shape."""
    return tuple(
        Thing(shape, *_LOOKS[(3 * row + step) % 24])
        for row, shape in enumerate(shapes)
        for step in steps
    )


SEEN_THINGS = _compositions(SEEN_SHAPES, steps=(0, 5, 10, 15, 20))
UNSEEN_THINGS = (
    *_compositions(SEEN_SHAPES, steps=(11, 12))[
        ::3
    ],  # one look new to its shape, for six of the shapes
    *_compositions(UNSEEN_SHAPES, steps=(2, 7, 12, 17, 22)),
)
ALL_THINGS = tuple(Thing(*words) for words in product(SHAPES, COLORS, PATTERNS))


def things_of(split: Split) -> tuple[Thing, ...]:
    """The thing classes of a split, in the order of its class ids."""
    return SEEN_THINGS if split == "train" else SEEN_THINGS + UNSEEN_THINGS


def stuff_of(split: Split) -> tuple[str, ...]:
    """The stuff classes of a split; their class ids follow those of the things."""
    return tuple(SEEN_STUFF) if split == "train" else STUFF


def all_names() -> tuple[str, ...]:
    """Every name of this world: 240 things, then 12 grounds. They trained the miniature CLIP."""
    return tuple(thing.name for thing in ALL_THINGS) + STUFF


def shapes_vocabulary(split: Split) -> "Vocabulary":
    """The classes annotated in a split: 40 things and 8 stuff for "train", 56 and 12 for "val"."""
    from frozenseg.vocabulary.vocabulary import Vocabulary

    things, stuff = things_of(split), stuff_of(split)
    stuff_colors = SEEN_STUFF | UNSEEN_STUFF
    return Vocabulary(
        synonyms=tuple((name,) for name in (*(thing.name for thing in things), *stuff)),
        is_thing=(True,) * len(things) + (False,) * len(stuff),
        colors=(*map(_drawing_color, things), *(stuff_colors[name] for name in stuff)),
    )


def _drawing_color(thing: Thing) -> tuple[int, int, int]:
    """The thing's colour, lighter or darker by shape, so that neighbours can be told apart."""
    gain = 0.75 + 0.05 * SHAPES.index(thing.shape)
    red, green, blue = (min(255, round(gain * value)) for value in COLORS[thing.color])
    return red, green, blue
