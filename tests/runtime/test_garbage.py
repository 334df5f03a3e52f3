"""The collector is paused in a block, and returns to its former state; lasting objects rest."""

import gc
import weakref

import pytest

from frozenseg.runtime.garbage import collector_paused, lasting_objects


def test_the_collector_is_paused_inside_and_runs_afterwards() -> None:
    with collector_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_inside_does_not_leave_the_collector_off() -> None:
    with pytest.raises(ValueError), collector_paused():
        raise ValueError
    assert gc.isenabled()


def test_a_caller_who_switched_the_collector_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_function_is_paused_at_every_call() -> None:
    @collector_paused()
    def is_enabled() -> bool:
        return gc.isenabled()

    assert [is_enabled(), is_enabled()] == [False, False]


def test_lasting_objects_are_never_searched_again_and_later_ones_are() -> None:
    try:
        with lasting_objects():
            kept = _Cycle()
        later = _Cycle()
        seen = [weakref.ref(kept), weakref.ref(later)]
        del kept, later
        gc.collect()
        assert [ref() is None for ref in seen] == [False, True]
    finally:
        gc.unfreeze()
        gc.collect()


class _Cycle:
    def __init__(self) -> None:
        self.itself = self
