"""The line in front of the model: order, places, and what happens when it is full."""

import asyncio
from contextlib import aclosing

import pytest

from frozenseg.web.line import BusyError, Line


async def visit(line: Line, told: list[int], serve: asyncio.Event) -> None:
    async with aclosing(line.places()) as places:
        async for place in places:
            told.append(place)
            if not place:
                await serve.wait()
                return


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_visitors_advance_in_order_of_arrival() -> None:
    async def scenario() -> list[list[int]]:
        line, told = Line(3), [[], [], []]
        serve = [asyncio.Event() for _ in told]
        visits = [asyncio.create_task(visit(line, *each)) for each in zip(told, serve, strict=True)]
        for served in serve:
            await settle()
            served.set()
        await asyncio.gather(*visits)
        return told

    assert asyncio.run(scenario()) == [[0], [1, 0], [2, 1, 0]]


def test_who_leaves_lets_the_others_advance() -> None:
    async def scenario() -> list[list[int]]:
        line, told, serve = Line(3), [[], [], []], asyncio.Event()
        visits = [asyncio.create_task(visit(line, each, serve)) for each in told]
        await settle()
        visits[1].cancel()
        await settle()
        serve.set()
        await asyncio.gather(*visits, return_exceptions=True)
        return told

    assert asyncio.run(scenario()) == [[0], [1], [2, 1, 0]]


def test_a_place_is_repeated_so_that_proxies_keep_the_connection() -> None:
    async def scenario() -> list[int]:
        line, told = Line(2, heartbeat=0.01), []
        first = asyncio.create_task(visit(line, [], asyncio.Event()))
        await settle()
        second = asyncio.create_task(visit(line, told, asyncio.Event()))
        while len(told) < 3:
            await asyncio.sleep(0.01)
        for task in (first, second):
            task.cancel()
        return told

    assert asyncio.run(scenario())[:3] == [1, 1, 1]


def test_a_full_line_admits_nobody_until_somebody_leaves() -> None:
    line = Line(1)
    with line.admission(), pytest.raises(BusyError), line.admission():
        pass
    with line.admission():
        pass
