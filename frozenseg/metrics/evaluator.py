"""What all evaluators share: how results leave them, and which classes are averaged together."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

Row = dict[str, str | int | float]
"""One class in a table of results; nan where the measure is undefined."""

State = dict[str, np.ndarray]
"""What an evaluator has seen so far, as plain arrays: it can be saved, sent and merged."""


class Evaluator(Protocol):
    """Fed image by image through its own ``process``; the rest is common.

    Numbers are in percent. A group without a class to average over gives nan.
    """

    def evaluate(self) -> dict[str, float]:
        """Metrics by flat names: ``task/metric``, or ``task/group/metric`` for some classes."""
        ...

    def per_class(self) -> list[Row]:
        """One row per class, in order of class ids."""
        ...

    def state_dict(self) -> State: ...

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        """Takes over what another process, or an interrupted run, has seen."""
        ...


class Classes:
    """The classes of a test vocabulary, and the groups that are reported apart."""

    def __init__(
        self,
        num_classes: int,
        *,
        is_thing: Sequence[bool] | None = None,
        seen: Sequence[bool] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.names = list(names) if names is not None else [str(k) for k in range(num_classes)]
        self.groups: dict[str, np.ndarray] = {}
        self._add_groups("things", "stuff", is_thing, num_classes)
        self._add_groups("seen", "unseen", seen, num_classes)
        if len(self.names) != num_classes:
            raise ValueError(f"{num_classes} classes but {len(self.names)} names: give one each")

    def __len__(self) -> int:
        return len(self.names)

    def averages(
        self, task: str, measures: Mapping[str, np.ndarray], *, weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """Percent means of per-class fractions over all classes and each group; nan is left out.

        Within each group, a class counts by its weight; None: all alike.
        """
        everything = {"": np.ones(len(self), dtype=bool)} | self.groups
        return {
            "/".join(filter(None, (task, group, name))): percent_mean(
                values[members], None if weights is None else weights[members]
            )
            for group, members in everything.items()
            for name, values in measures.items()
        }

    def rows(self, columns: Mapping[str, np.ndarray]) -> list[Row]:
        """One row per class: its name, its groups, then the columns; fractions become percent."""
        shown = {
            name: 100.0 * values if values.dtype.kind == "f" else values
            for name, values in columns.items()
        }
        return [
            {"class_id": k, "name": name}
            | {
                group: int(self.groups[group][k])
                for group in ("things", "seen")
                if group in self.groups
            }
            | {column: values[k].item() for column, values in shown.items()}
            for k, name in enumerate(self.names)
        ]

    def _add_groups(
        self, inside: str, outside: str, flags: Sequence[bool] | None, num_classes: int
    ) -> None:
        if flags is None:
            return
        if len(flags) != num_classes:
            raise ValueError(
                f"{num_classes} classes but {len(flags)} '{inside}' flags: give one each"
            )
        members = np.asarray(flags, dtype=bool)
        self.groups |= {inside: members, outside: ~members}


def percent_mean(fractions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Weighted mean of the defined fractions in percent; nan if none of them counts."""
    counts = ~np.isnan(fractions) & (True if weights is None else weights > 0)
    if not counts.any():
        return float("nan")
    shares = None if weights is None else weights[counts]
    return 100.0 * float(np.average(fractions[counts], weights=shares))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element by element; nan where the denominator is zero."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def add_counts(own: State, other: Mapping[str, np.ndarray]) -> None:
    """Adds another evaluator's counts to ``own``, in place.

    Raises:
        ValueError: the other one counted something else.
    """
    if {name: array.shape for name, array in own.items()} != {
        name: np.shape(array) for name, array in other.items()
    }:
        raise ValueError(
            f"cannot merge counts of {_shapes(other)} into {_shapes(own)}: "
            "both must come from the same evaluator and vocabulary"
        )
    for name, array in own.items():
        array += other[name]


def _shapes(state: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {np.shape(array)}" for name, array in state.items())
