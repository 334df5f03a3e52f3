"""An entry point with every kind of fault, for the test of the harness; in no other run."""

import os
import signal
from pathlib import Path
from random import Random
from typing import Any

from tools.fuzz.case import Case, Entry, WrongResult

ACTIONS = ("result", "refuse", "raise", "mislead", "die", "hang", "eat")


def _make(rng: Random) -> Case:
    return Case("self_test", {"action": rng.choice(ACTIONS)})


def _run(arguments: Any, _: Path) -> None:
    from frozenseg.errors import UserError

    action = arguments["action"]
    if action == "refuse":
        raise UserError("one sentence")
    if action == "raise":
        raise KeyError("no sentence")
    if action == "mislead":
        raise WrongResult("another number")
    if action == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if action == "hang":
        while True:
            pass
    if action == "eat":
        bytearray(5 << 30)


ENTRIES = (Entry("self_test", _make, _run, 0.0),)
