#!/usr/bin/env python
"""Many visitors at once for some minutes: answers, waits, errors, and the server's memory.

    python tools/soak_web.py --users 50 --minutes 10

Starts `frozenseg web` on the loopback address. Each visitor checks class names, sends an example
scene for a random task, waits for the result, pauses, and repeats this; one in ten sends a file
that is no image, and one in ten leaves while waiting. The exit status is 1 after any error but
"busy".
"""

import argparse
import http.client
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from rich.console import Console
from rich.table import Table
from web_checks.server import running_server

from frozenseg.web.examples import Example, example_scenes

TASKS = ("panoptic", "semantic", "instance")
MOST_MINUTES = 30
PAUSE_SECONDS = 2.0  # mean
PATIENCE_SECONDS = 300
SAMPLE_SECONDS = 5.0


@dataclass
class Tally:
    """What all visitors met."""

    outcomes: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)  # seconds from request to result
    errors: list[str] = field(default_factory=list)
    places: int = 0  # the longest line that anybody was told of
    memory: list[float] = field(default_factory=list)  # MB, every few seconds


class Visitor:
    """One user.

    Args:
        url: of the server.
        seed: of the visitor's choices.
        end: when the visit ends, even while waiting.
        examples: images and class names to send.
        tally: where outcomes are counted.
    """

    def __init__(
        self, url: str, *, seed: int, end: float, examples: list[Example], tally: Tally
    ) -> None:
        self.host = urlsplit(url).netloc
        self.random, self.end = random.Random(seed), end
        self.examples, self.tally = examples, tally

    def visit(self) -> None:
        """Segments image after image; an unexpected failure is an error in the tally."""
        while time.monotonic() < self.end:
            try:
                outcome = self.segment()
            except (OSError, http.client.HTTPException, ValueError) as error:
                outcome = "error"
                self.tally.errors.append(repr(error))
            self.tally.outcomes[outcome] += 1
            time.sleep(self.random.expovariate(1 / PAUSE_SECONDS))

    def segment(self) -> str:
        """One round; returns what came of it."""
        example, habit = self.random.choice(self.examples), self.random.random()
        self.post("/check", example.words.encode()).read()
        query = f"words={quote(example.words)}&task={self.random.choice(TASKS)}"
        body = b"no image" if habit < 0.1 else example.png
        start = time.monotonic()
        answer = self.post(f"/segment?{query}", body)
        if answer.status == 503:
            answer.read()
            time.sleep(float(answer.headers["Retry-After"]))
            return "busy"
        if habit < 0.1:
            return self.expect("no image" if answer.status == 400 else "error", answer)
        for line in answer:
            message = json.loads(line)
            if "place" in message:
                self.tally.places = max(self.tally.places, message["place"])
                if message["place"] and (habit > 0.9 or time.monotonic() > self.end):
                    answer.close()
                    return "left"
            elif "result" in message:
                self.tally.waits.append(time.monotonic() - start)
                return "result"
        return self.expect("error", answer)

    def post(self, path: str, body: bytes) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_SECONDS)
        connection.request("POST", path, body)
        return connection.getresponse()

    def expect(self, outcome: str, answer: http.client.HTTPResponse) -> str:
        text = answer.read().decode()
        if outcome == "error":
            self.tally.errors.append(f"status {answer.status}: {text[:200]}")
        return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="A soak test of the web page.")
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    if not 0 < options.minutes <= MOST_MINUTES:
        parser.error(f"--minutes is at most {MOST_MINUTES}")
    with running_server() as server:
        tally = soak(server.url, server.process.pid, options.users, 60 * options.minutes)
    report(tally, options.minutes)
    return 1 if tally.errors else 0


def soak(url: str, pid: int, users: int, seconds: float) -> Tally:
    """Lets visitors in for some seconds, and watches the server's memory meanwhile."""
    tally, examples, end = Tally(), example_scenes(), time.monotonic() + seconds
    visitors = [
        Visitor(url, seed=seed, end=end, examples=examples, tally=tally) for seed in range(users)
    ]
    threads = [threading.Thread(target=each.visit) for each in visitors]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        tally.memory.append(resident_mb(pid))
        time.sleep(SAMPLE_SECONDS)
    for thread in threads:
        thread.join()
    return tally


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def report(tally: Tally, minutes: float) -> None:
    """Prints a table, and each distinct error."""
    waits, memory = sorted(tally.waits), tally.memory
    table = Table("measure", "value", title=f"{minutes:g} minutes", title_justify="left")
    for outcome, count in tally.outcomes.most_common():
        table.add_row(outcome, f"{count:,}")
    if waits:
        shares = [waits[int(share * (len(waits) - 1))] for share in (0.5, 0.95, 1)]
        table.add_row("wait, median / 95 % / longest", " / ".join(f"{s:.1f} s" for s in shares))
    table.add_row("most visitors ahead", f"{tally.places}")
    quarters = [memory[int(part * (len(memory) - 1))] for part in (0, 0.25, 0.5, 0.75, 1)]
    table.add_row("memory at each quarter", " / ".join(f"{mb:,.0f}" for mb in quarters) + " MB")
    table.add_row("load of the machine, 15 minutes", f"{os.getloadavg()[2]:.1f}")
    table.add_row("most memory", f"{max(memory):,.0f} MB")
    console = Console()
    console.print(table)
    for error, count in Counter(tally.errors).most_common(10):
        console.print(f"{count} x {error}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
