"""docs/configuration.md is what ``tools/configuration_reference.py`` writes."""

from configuration_reference import PAGE, reference

from frozenseg.config.keys import ACCEPTED_UNUSED, known_keys


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run python tools/configuration_reference.py"


def test_every_key_has_a_meaning() -> None:
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    meaningless = [row[0] for row in rows if not row[-1].strip(" |")]
    assert len(rows) == len(set(known_keys()) - set(ACCEPTED_UNUSED))
    assert not meaningless
