import time
from functools import partial
from threading import Event, Thread, get_ident

import pytest

from frozenseg.runtime.background import Background


def test_calls_are_made_in_order_in_one_other_thread() -> None:
    made: list[tuple[int, int]] = []

    def call(number: int) -> None:
        time.sleep(0.001 * (number % 3))
        made.append((number, get_ident()))

    with Background() as background:
        for number in range(20):
            background.submit(partial(call, number))
    assert [number for number, _ in made] == list(range(20))
    threads = {thread for _, thread in made}
    assert len(threads) == 1 and get_ident() not in threads


def test_the_caller_goes_on_until_too_many_calls_wait() -> None:
    may_run, made = Event(), []

    def call() -> None:
        assert may_run.wait(timeout=30)
        made.append(1)

    with Background(waiting=1) as background:
        for _ in range(2):  # one is under way, one waits
            background.submit(call)
        third = Thread(target=background.submit, args=(call,))
        third.start()
        third.join(timeout=0.05)
        assert not made and third.is_alive(), "a third call found room"
        may_run.set()
        third.join()
    assert len(made) == 3


def test_a_failed_call_is_the_last_and_its_error_reaches_the_caller() -> None:
    made: list[str] = []

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), Background() as background:
        background.submit(fail)
        for _ in range(3):
            background.submit(lambda: made.append("later"))
    assert not made


def test_the_last_call_may_fail_too() -> None:
    def fail() -> None:
        time.sleep(0.01)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), Background() as background:
        background.submit(fail)


def test_outstanding_calls_are_made_before_an_error_of_the_caller_leaves_the_block() -> None:
    made: list[str] = []

    def call() -> None:
        time.sleep(0.01)
        made.append("done")

    with pytest.raises(KeyboardInterrupt), Background() as background:
        background.submit(call)
        background.submit(call)
        raise KeyboardInterrupt
    assert made == ["done", "done"]
