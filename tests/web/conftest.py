"""The miniature model behind a page, for all tests of this folder."""

import pytest

import frozenseg
from frozenseg.inference.segmenter import Segmenter
from frozenseg.web.service import Service


@pytest.fixture(scope="session")
def shapes() -> Segmenter:
    return frozenseg.load("shapes", device="cpu")


@pytest.fixture(scope="session")
def service(shapes: Segmenter) -> Service:
    return Service(shapes, name="shapes", miniature=True)
