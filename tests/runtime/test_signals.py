import os
import signal

import pytest

from frozenseg.runtime.signals import REQUEUE_EXIT_CODE, SIGNALS, StopRequest, exit_on_signal


@pytest.mark.parametrize("number", SIGNALS)
def test_a_process_leaves_when_asked_unless_it_has_something_to_save(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as left, exit_on_signal():
        with StopRequest() as stop:
            os.kill(os.getpid(), number)
        assert stop.requested
        os.kill(os.getpid(), number)
    assert left.value.code == REQUEUE_EXIT_CODE
    assert signal.getsignal(number) is before
