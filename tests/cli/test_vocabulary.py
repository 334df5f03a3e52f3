"""``frozenseg vocabulary``: lists, and what training has seen of them."""

import pytest


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frozenseg.cli.console.console.width", 300)


def test_list_names_every_class_list(run) -> None:
    done = run("vocabulary", "list")
    assert done.exit_code == 0
    (line,) = [line for line in done.stdout.splitlines() if "ade20k_150" in line]
    assert line.split()[1:3] == ["150", "100"]


def test_show_marks_seen_and_unseen_classes(run) -> None:
    done = run("vocabulary", "show", "cityscapes", "--against", "coco_panoptic")
    lines = {line.split()[1]: line for line in done.stdout.splitlines()[1:-1]}
    assert "unseen" in lines["rider"] and "thing" in lines["rider"]
    assert "unseen" not in lines["sky"] and "stuff" in lines["sky"]
    assert done.stdout.splitlines()[-1] == "17 of 19 classes are seen, 2 unseen"


def test_show_takes_words_and_files(run, tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("cat\ngrass [stuff]\nspaceship\n")
    for value in ("cat; grass [stuff]; spaceship", path):
        done = run("vocabulary", "show", value)
        assert done.stdout.splitlines()[-1] == "2 of 3 classes are seen, 1 unseen"


def test_a_wrong_name_is_one_sentence_and_status_2(run) -> None:
    done = run("vocabulary", "show", "ade20k_15")
    assert done.exit_code == 2
    assert "did you mean 'ade20k_150'?" in done.stderr
