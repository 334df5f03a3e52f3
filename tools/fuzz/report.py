"""Reports of a run: a table, Markdown for the documentation, and JSON."""

from collections import Counter
from dataclasses import asdict
from threading import Lock
from typing import Any

from tools.fuzz.case import FAULTS, Case, Outcome


class Report:
    """Counts outcomes by entry point, and keeps one case of each kind of fault."""

    def __init__(self, seed: int) -> None:
        self.seed, self.seconds = seed, 0.0
        self._counts: dict[str, Counter[str]] = {}
        self._slowest: dict[str, float] = {}
        self._total_seconds: Counter[str] = Counter()
        self._peak_mib: dict[str, int] = {}
        self._kinds: dict[tuple[str, ...], tuple[Case, Outcome]] = {}
        self._how_often: Counter[tuple[str, ...]] = Counter()
        self._lock = Lock()

    def add(self, case: Case, outcome: Outcome) -> bool:
        """Counts a case; returns True if it is the first fault of its kind."""
        with self._lock:
            self._counts.setdefault(case.entry, Counter())[outcome.kind] += 1
            self._total_seconds[case.entry] += outcome.seconds  # type: ignore[assignment]
            self._slowest[case.entry] = max(self._slowest.get(case.entry, 0.0), outcome.seconds)
            self._peak_mib[case.entry] = max(self._peak_mib.get(case.entry, 0), outcome.peak_mib)
            if not outcome.is_fault:
                return False
            key = (case.entry, *outcome.signature)
            self._how_often[key] += 1
            is_new = key not in self._kinds
            self._kinds.setdefault(key, (case, outcome))
            return is_new

    def name(self, case: Case, outcome: Outcome) -> None:
        """Replaces the case of a kind by a smaller one."""
        with self._lock:
            self._kinds[(case.entry, *outcome.signature)] = (case, outcome)

    @property
    def faults(self) -> int:
        return sum(self._how_often.values())

    def _rows(self) -> list[list[str]]:
        rows = []
        for entry, counts in sorted(self._counts.items()):
            faults = [str(counts[kind]) for kind in FAULTS]
            numbers = [str(counts.total()), str(counts["result"]), str(counts["refused"]), *faults]
            rows.append(
                [
                    entry,
                    *numbers,
                    f"{self._total_seconds[entry] / counts.total():.2f}",
                    f"{self._slowest[entry]:.1f}",
                    str(self._peak_mib[entry]),
                ]
            )
        total: Counter[str] = sum(self._counts.values(), Counter())
        numbers = [str(total[kind]) for kind in ("result", "refused", *FAULTS)]
        mean = sum(self._total_seconds.values()) / max(total.total(), 1)
        ends = [
            f"{mean:.2f}",
            f"{max(self._slowest.values(), default=0.0):.1f}",
            str(max(self._peak_mib.values(), default=0)),
        ]
        return [*rows, ["all", str(total.total()), *numbers, *ends]]

    def _header(self) -> list[str]:
        return [
            "entry point",
            "cases",
            "result",
            "refused",
            *FAULTS,
            "mean, s",
            "slowest, s",
            "peak, MiB",
        ]

    def table(self) -> str:
        """For the terminal, with one example of each kind of fault."""
        rows = [self._header(), *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join(
            [
                *lines,
                *self._examples(),
                f"seed {self.seed}, {self.seconds:.0f} s, {self.faults} faults",
            ]
        )

    def markdown(self) -> str:
        """For ``docs/reliability.md``."""
        header = self._header()
        lines = [
            "| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *self._rows())
        ]
        return "\n".join(
            [*lines, "", f"Seed {self.seed}, {self.seconds:.0f} s, {self.faults} faults."]
        )

    def _examples(self) -> list[str]:
        lines = []
        for key, (case, outcome) in sorted(self._kinds.items()):
            shown = (
                f"arguments {case.arguments!r}"[:300].encode("ascii", "backslashreplace").decode()
            )
            files = {name: data[:200] for name, data in list(case.files.items())[:2]}
            what = f"{outcome.kind} in {case.entry}, {self._how_often[key]} times"
            lines += [
                f"\n{what}: {outcome.error} in {outcome.place}",
                f"  {outcome.message[:200]}",
                f"  {shown}",
                *([f"  files {files!r}"[:400]] if files else []),
            ]
        return [*lines, ""]

    def as_json(self) -> dict[str, Any]:
        kinds = [
            {
                "entry": case.entry,
                "count": self._how_often[key],
                **asdict(outcome),
                "case": case.to_json(),
            }
            for key, (case, outcome) in sorted(self._kinds.items())
        ]
        counts = {entry: dict(counts) for entry, counts in self._counts.items()}
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "faults": self.faults,
            "counts": counts,
            "kinds": kinds,
        }
