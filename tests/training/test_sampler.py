from itertools import islice

import pytest

from frozenseg.training.sampler import InfiniteSampler, Visit


def visits(count: int, size: int = 10, **options: int) -> list[Visit]:
    return list(islice(InfiniteSampler(size, seed=4, **options), count))


def test_every_pass_sees_every_sample_once_in_a_new_order() -> None:
    indices = [visit.index for visit in visits(30)]
    passes = [indices[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_positions_count_up_and_never_repeat() -> None:
    assert [visit.position for visit in visits(25)] == list(range(25))


def test_processes_together_see_what_one_would_see() -> None:
    shares = [visits(8, rank=rank, world_size=3) for rank in range(3)]
    together = sorted((visit for share in shares for visit in share), key=lambda v: v.position)
    assert together == visits(24)


def test_it_can_begin_anywhere() -> None:
    assert visits(12, start=17) == visits(29)[17:]


def test_the_seed_alone_decides_the_order() -> None:
    assert visits(20) == visits(20)
    other = list(islice(InfiniteSampler(10, seed=5), 20))
    assert other != visits(20)


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        InfiniteSampler(0, seed=0)
