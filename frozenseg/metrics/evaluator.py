"""The interface of all evaluators and the table of classes that they average over."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

Row = dict[str, str | int | float]
"""One class in a table of results; nan where the measure is undefined."""

State = dict[str, np.ndarray]
"""An evaluator's accumulated counts as plain arrays, to be saved, sent and merged."""


class Evaluator(Protocol):
    """Accumulates over images; ``process``, which takes one image, differs between evaluators.

    Metrics are in percent. A group of classes without a defined value gives nan.
    """

    def evaluate(self) -> dict[str, float]:
        """Returns metrics by flat names: ``task/metric``, or ``task/group/metric`` for a group."""
        ...

    def per_class(self) -> list[Row]:
        """Returns one row per class, in order of class ids."""
        ...

    def state_dict(self) -> State: ...

    def merge(self, other: Mapping[str, np.ndarray]) -> None:
        """Adds the ``state_dict`` of another process or of an interrupted run."""
        ...


class Classes:
    """The table of test classes that every evaluator takes.

    Args:
        num_classes: K.
        is_thing: (K,) True for things, False for stuff; None: not known, every class may have
            instances.
        seen: (K,) True for classes of the training vocabulary; None: not reported separately.
        names: (K,) for tables; None: the class ids.

    Raises:
        ValueError: a list has another length than ``num_classes``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        is_thing: Sequence[bool] | None = None,
        seen: Sequence[bool] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.names = list(names) if names is not None else [str(k) for k in range(num_classes)]
        for label, given in (
            ("names", names),
            ("'things' flags", is_thing),
            ("'seen' flags", seen),
        ):
            if given is not None and len(given) != num_classes:
                raise ValueError(f"{num_classes} classes but {len(given)} {label}: give one each")
        self.is_thing = np.ones(num_classes, dtype=bool)
        self._thing_groups: dict[str, np.ndarray] = {}
        if is_thing is not None:
            self.is_thing = np.asarray(is_thing, dtype=bool)
            self._thing_groups = {"things": self.is_thing, "stuff": ~self.is_thing}
        self._seen_groups: dict[str, np.ndarray] = {}
        if seen is not None:
            members = np.asarray(seen, dtype=bool)
            self._seen_groups = {"seen": members, "unseen": ~members}

    def __len__(self) -> int:
        return len(self.names)

    def groups(self, *, split_things: bool = False) -> dict[str, np.ndarray]:
        """Returns the reported groups as (K,) bool: all classes under "", then the subsets.

        Args:
            split_things: also report things and stuff separately (panoptic quality does).
        """
        everything = {"": np.ones(len(self), dtype=bool)}
        return everything | (self._thing_groups if split_things else {}) | self._seen_groups

    def averages(
        self,
        task: str,
        measures: Mapping[str, np.ndarray],
        *,
        weights: np.ndarray | None = None,
        split_things: bool = False,
    ) -> dict[str, float]:
        """Averages per-class measures over all classes and over each group, in percent.

        Args:
            task: first part of the metric names.
            measures: (K,) fractions by name; nan is left out of the mean.
            weights: (K,) weight of each class within its group; None: equal weights.
            split_things: see ``groups``.

        Returns:
            Percentages under ``task/name`` and ``task/group/name``.
        """
        return {
            "/".join(filter(None, (task, group, name))): percent_mean(
                values[members], None if weights is None else weights[members]
            )
            for group, members in self.groups(split_things=split_things).items()
            for name, values in measures.items()
        }

    def rows(self, columns: Mapping[str, np.ndarray], *, split_things: bool = False) -> list[Row]:
        """Returns one row per class: its name, its groups, then the columns.

        Args:
            columns: (K,) values by name; fractions become percent.
            split_things: also write the column ``things``.
        """
        shown = {
            name: 100.0 * values if values.dtype.kind == "f" else values
            for name, values in columns.items()
        }
        groups = self.groups(split_things=split_things)
        flags = {name: groups[name] for name in ("things", "seen") if name in groups}
        return [
            {"class_id": k, "name": name}
            | {group: int(members[k]) for group, members in flags.items()}
            | {column: values[k].item() for column, values in shown.items()}
            for k, name in enumerate(self.names)
        ]


def percent_mean(fractions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns the weighted mean of the defined fractions in percent; nan if there is none."""
    counts = ~np.isnan(fractions) & (True if weights is None else weights > 0)
    if not counts.any():
        return float("nan")
    shares = None if weights is None else weights[counts]
    return 100.0 * float(np.average(fractions[counts], weights=shares))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides element by element; nan where the denominator is zero."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def add_counts(own: State, other: Mapping[str, np.ndarray]) -> None:
    """Adds another evaluator's counts to ``own``, in place.

    Raises:
        ValueError: the arrays have other names or shapes.
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
