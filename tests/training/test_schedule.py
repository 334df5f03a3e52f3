import pytest

from frozenseg.training.schedule import cosine, multi_step, polynomial, warmed_up


def test_a_step_takes_effect_at_its_iteration() -> None:
    schedule = multi_step(steps=(10, 20), gamma=0.1)
    factors = [schedule(iteration) for iteration in (0, 9, 10, 19, 20, 1000)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_one_to_zero_through_one_half() -> None:
    schedule = cosine(num_iterations=100)
    assert [schedule(i) for i in (0, 50, 100)] == pytest.approx([1, 0.5, 0], abs=1e-12)


def test_poly_falls_as_a_power_of_what_remains() -> None:
    schedule = polynomial(num_iterations=100)
    assert [schedule(0), schedule(100)] == [1.0, 0.0]
    assert schedule(50) == pytest.approx(0.5**0.9)
    assert polynomial(num_iterations=100, power=2.0)(75) == pytest.approx(0.0625)


def test_warm_up_is_a_straight_line_to_the_schedule() -> None:
    schedule = warmed_up(multi_step(steps=(6,)), num_iterations=4, start_factor=0.2)
    factors = [schedule(iteration) for iteration in range(7)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.1])


def test_the_recipes_warm_up_changes_nothing() -> None:
    schedule = warmed_up(multi_step(steps=(327778,)), num_iterations=10, start_factor=1.0)
    assert {schedule(iteration) for iteration in range(20)} == {1.0}


def test_warm_up_meets_a_schedule_that_has_moved_on() -> None:
    falling = cosine(num_iterations=8)
    schedule = warmed_up(falling, num_iterations=4, start_factor=0.0)
    assert schedule(2) == pytest.approx(falling(4) / 2)
    assert schedule(4) == falling(4)


def test_polynomial_stays_real_where_the_warm_up_is_longer_than_the_run() -> None:
    schedule = warmed_up(polynomial(num_iterations=2), num_iterations=1500, start_factor=1e-6)
    assert all(isinstance(schedule(i), float) and 0 <= schedule(i) <= 1e-6 for i in (0, 1, 1500))
