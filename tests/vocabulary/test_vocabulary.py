"""What users may write, and what they get."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozenseg.errors import UserError
from frozenseg.vocabulary import Vocabulary, parse_vocabulary
from frozenseg.vocabulary.vocabulary import shared_synonyms


def words(*classes: str) -> Vocabulary:
    return parse_vocabulary(list(classes))


def test_a_list_holds_one_class_per_entry_with_synonyms_between_commas() -> None:
    vocabulary = parse_vocabulary(["cat", " dog,puppy ,  hound"])
    assert vocabulary.synonyms == (("cat",), ("dog", "puppy", "hound"))
    assert vocabulary.names == ("cat", "dog")
    assert vocabulary.is_thing == (True, True)
    assert len(vocabulary) == 2


@pytest.mark.parametrize(
    "text", ["cat, kitten; grass", "cat,kitten\ngrass\n", "; cat, kitten ;; grass;"]
)
def test_a_string_parts_classes_at_semicolons_and_line_ends(text: str) -> None:
    assert parse_vocabulary(text).synonyms == (("cat", "kitten"), ("grass",))


def test_a_string_without_semicolon_is_one_class_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert len(parse_vocabulary("cat, dog")) == 1
    assert "separate classes with ';'" in caplog.text


def test_a_marker_makes_a_class_stuff() -> None:
    vocabulary = words("cat", "grass, lawn [stuff]", "dog[thing]")
    assert vocabulary.is_thing == (True, False, True)
    assert vocabulary.synonyms[1:] == (("grass", "lawn"), ("dog",))


def test_a_file_has_one_class_per_line_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "pets.txt"
    path.write_text(
        "\ufeff# pets\n\ncat, kitten  # small\ngrass [stuff]\nc# book\n", encoding="utf-8"
    )
    expected = Vocabulary((("cat", "kitten"), ("grass",), ("c# book",)), (True, False, True))
    assert parse_vocabulary(path) == expected
    assert parse_vocabulary(str(path)) == expected


def test_a_built_in_name_wins_over_the_word() -> None:
    assert len(parse_vocabulary("ade20k_150")) == 150


@given(st.lists(st.lists(st.text("abc xyz-_'", min_size=1), min_size=1), min_size=1))
def test_list_string_and_file_agree(tmp_path_factory: pytest.TempPathFactory, raw) -> None:
    seen: set[str] = set()
    classes = []
    for synonyms in raw:
        kept = [
            s.strip()
            for s in synonyms
            if s.strip() and not (s.strip() in seen or seen.add(s.strip()))
        ]
        if kept:
            classes.append(", ".join(kept))
    if not classes:
        return
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n".join(classes))
    assert (
        parse_vocabulary(classes)
        == parse_vocabulary(path)
        == parse_vocabulary(";".join(classes) + ";")
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "holds no class"),
        ("", "holds no class"),
        (" ; ", "holds no class"),
        (["cat", ""], r"entry 2 \(''\) has an empty synonym"),
        (["cat,,kitten"], "entry 1 .* empty synonym"),
        ("cat; dog,", "class 2 .* empty synonym"),
        (["cat", "dog", "cat"], "'cat' appears twice, in entry 1 and entry 3"),
        (["cat, dog", "dog"], "'dog' appears twice, in entry 1 and entry 2"),
        (["cat, cat"], "'cat' appears twice, in entry 1 and entry 1"),
        (["sky [stuf]"], r"entry 1 ends in \[stuf\]: write \[thing\], \[stuff\] or neither"),
        (None, "the vocabulary is a NoneType: give class names"),
        (3, "the vocabulary is a int"),
        (b"cat", "the vocabulary is a bytes"),
        ({"cat": 1}, "the vocabulary is a dict"),
        (["cat", 1], "a list with 1, a int"),
        ([None], "a list with None, a NoneType"),
        ("~a\0", "no vocabulary file"),
        ("~a\ud800", "no vocabulary file"),
        (["a\ud800"], r"'a\\ud800', which is not valid Unicode"),
        ("/" + "x" * 5000, "no vocabulary file"),
        ("ade20k_15", "did you mean 'ade20k_150'"),
        ("words.txt", "no vocabulary file words.txt"),
        ("./words", "no vocabulary file"),
        ("~nobody-of-this-name", "no vocabulary file"),
        (Path("nowhere/words.lst"), "cannot read the vocabulary file"),
        (Path("."), "cannot read the vocabulary file"),
    ],
)
def test_a_mistake_is_one_sentence(value, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_vocabulary(value)


def test_a_file_that_repeats_a_word_is_named_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("cat\n# pets\ndog, cat\n")
    with pytest.raises(
        UserError, match=r"'cat' appears twice, in words.txt line 1 and words.txt line 3"
    ):
        parse_vocabulary(path)


@pytest.mark.parametrize("text", ["0:invalid_class_id\n", "0:x\n1:x\n"])
def test_a_prompt_file_of_placeholders_alone_holds_no_class(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"prompts\.txt holds no class but a placeholder"):
        parse_vocabulary(path)


def test_a_message_quotes_a_part_of_a_long_name() -> None:
    with pytest.raises(UserError, match="appears twice") as raised:
        parse_vocabulary(["x" * 10_000, "x" * 10_000])
    assert len(str(raised.value)) < 400


@given(st.text())
def test_any_text_is_a_vocabulary_or_one_sentence(text: str) -> None:
    with contextlib.suppress(UserError):
        parse_vocabulary(text)


def test_synonyms_of_two_classes_are_listed() -> None:
    vocabulary = Vocabulary((("box", "case"), ("case", "bag"), ("cat",)), (True,) * 3)
    assert shared_synonyms(vocabulary) == ["case"]


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match=r"words.txt .*UTF-8"):
        parse_vocabulary(path)


def test_a_very_long_word_is_not_taken_for_a_file() -> None:
    assert parse_vocabulary("x" * 5000).names == ("x" * 5000,)


def test_a_class_is_seen_if_any_synonym_equals_any_training_synonym() -> None:
    training = words("person, man", "playing field", "tv")
    test = words(
        "man", "field, playing field", "TV", "tvs", "playing_field", "rider, person on horse"
    )
    assert test.seen_by(training) == (True, True, False, False, False, False)
    assert all(training.seen_by(training))


def test_things_are_the_thing_classes_in_order() -> None:
    vocabulary = Vocabulary(
        (("sky",), ("cat",), ("sea",), ("dog", "puppy")), (False, True, False, True)
    )
    assert vocabulary.things() == Vocabulary((("cat",), ("dog", "puppy")), (True, True))
    colored = Vocabulary((("sky",), ("cat",)), (False, True), ((1, 2, 3), (4, 5, 6)))
    assert colored.things().colors == ((4, 5, 6),)


def test_a_vocabulary_refuses_flags_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="1 classes, 2 flags"):
        Vocabulary((("cat",),), (True, True))
    with pytest.raises(ValueError, match="at least one class"):
        Vocabulary((), ())


class TestOfficialPromptFiles:
    """One ``id:synonym,synonym`` per line; most begin with a placeholder for id 0."""

    def write(self, tmp_path: Path, *lines: str) -> Path:
        path = tmp_path / "prompts.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    def test_the_placeholder_of_line_0_is_left_out(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "0:invalid_class_id", "1:wall,brick wall", "2:sky, clouds")
        assert parse_vocabulary(path).synonyms == (("wall", "brick wall"), ("sky", "clouds"))

    def test_gaps_in_the_ids_are_left_out(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "0:nothing", "1:person", "2:nothing", "3:car,cars", "4:nothing")
        assert parse_vocabulary(path).synonyms == (("person",), ("car", "cars"))

    def test_a_real_class_on_line_0_stays(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "0:road", "1:sidewalk,pavement")
        assert parse_vocabulary(path, like=words("a", "b")).names == ("road", "sidewalk")

    def test_any_placeholder_is_known_by_the_count(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "0:none", "1:road", "2:sidewalk")
        assert parse_vocabulary(path, like=words("a", "b")).names == ("road", "sidewalk")

    def test_a_string_shared_by_two_classes_is_kept(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "0:box,case,box", "1:case")
        assert parse_vocabulary(path).synonyms == (("box", "case"), ("case",))

    def test_a_class_without_a_word_is_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "0:road,", "1: ,")
        with pytest.raises(UserError, match="line 2 of the prompt file has no class name"):
            parse_vocabulary(path)

    def test_thing_flags_and_colours_come_from_the_data_set(self, tmp_path: Path) -> None:
        like = Vocabulary((("a",), ("b",)), (False, True), ((1, 2, 3), (4, 5, 6)))
        path = self.write(tmp_path, "0:road", "1:car,cars")
        assert parse_vocabulary(path, like=like) == Vocabulary(
            (("road",), ("car", "cars")), like.is_thing, like.colors
        )

    def test_another_number_of_classes_is_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "0:road", "1:car", "2:bus")
        with pytest.raises(UserError, match="3 classes where 1 are expected"):
            parse_vocabulary(path, like=words("a"))
