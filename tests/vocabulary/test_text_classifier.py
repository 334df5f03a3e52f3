"""Hand-worked text classifiers in two dimensions, and what the cache may and may not do."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from frozenseg.io.safetensors_files import write_safetensors
from frozenseg.vocabulary import (
    VILD_TEMPLATES,
    TextClassifier,
    build_text_classifier,
    parse_vocabulary,
)


class Encoder:
    """A text tower that knows its words' embeddings and counts its calls."""

    def __init__(self, table: dict[str, tuple[float, ...]]) -> None:
        self.table = table
        self.prompts: list[str] = []

    def __call__(self, prompts: list[str]) -> Tensor:
        self.prompts += prompts
        return torch.tensor([self.table[prompt] for prompt in prompts])


def test_templates_are_the_published_ones(golden: Path) -> None:
    stored = json.loads((golden / "templates.json").read_text())
    assert list(VILD_TEMPLATES) == stored["templates"]
    assert [t.endswith(".") for t in VILD_TEMPLATES[:5]] == [True, False, False, False, False]


def test_a_row_is_the_normalised_mean_of_normalised_templates() -> None:
    encoder = Encoder({"a cat": (5.0, 0.0), "the cat": (0.0, 0.1)})
    classifier = build_text_classifier(
        encoder, parse_vocabulary(["cat"]), templates=("a {}", "the {}")
    )
    torch.testing.assert_close(classifier.embeddings, torch.full((1, 2), math.sqrt(0.5)))


def test_every_synonym_has_a_row_and_its_class() -> None:
    encoder = Encoder({"cat": (1, 0), "kitten": (3, 4), "dog": (0, 2)})
    classifier = build_text_classifier(
        encoder, parse_vocabulary(["cat, kitten", "dog"]), templates=("{}",)
    )
    torch.testing.assert_close(classifier.embeddings, torch.tensor([[1, 0], [0.6, 0.8], [0, 1]]))
    assert classifier.class_ids.tolist() == [0, 0, 1]
    assert classifier.num_classes == 2


def test_logits_are_scaled_cosines_of_the_best_synonym_and_void_comes_last() -> None:
    classifier = TextClassifier(
        torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]]), torch.tensor([0, 0, 1])
    )
    regions = torch.tensor([[[2.0, 0.0], [0.0, 5.0]], [[-3.0, 0.0], [3.0, -4.0]]])
    logits = classifier.logits(regions, void=torch.tensor([0.0, 7.0]), logit_scale=10.0)
    by_hand = [[[10, 0, 0], [8, -10, 10]], [[-6, 0, 0], [6, 8, -8]]]
    torch.testing.assert_close(logits, torch.tensor(by_hand, dtype=torch.float32))


def test_one_class_gives_two_columns() -> None:
    classifier = TextClassifier(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert classifier.logits(torch.ones(1, 4, 2), 1.0, void=torch.ones(2)).shape == (1, 4, 2)


def test_the_order_of_synonyms_does_not_matter() -> None:
    rows, ids = (
        torch.nn.functional.normalize(torch.randn(6, 5), dim=-1),
        torch.tensor([0, 0, 1, 2, 2, 2]),
    )
    regions, void = torch.randn(2, 3, 5), torch.randn(5)
    shuffled = torch.randperm(6)
    torch.testing.assert_close(
        TextClassifier(rows, ids).logits(regions, 3.0, void=void),
        TextClassifier(rows[shuffled], ids[shuffled]).logits(regions, 3.0, void=void),
    )


def test_gradient_reaches_regions_void_and_scale() -> None:
    classifier = TextClassifier(
        torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=-1),
        torch.tensor([0, 1, 1, 2]),
    )
    inputs = [
        torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((2, 3, 3), (), (3,))
    ]
    assert torch.autograd.gradcheck(lambda r, s, v: classifier.logits(r, s, void=v), inputs)


def test_half_precision_regions_are_accepted() -> None:
    classifier = TextClassifier(torch.eye(2), torch.tensor([0, 1]))
    assert (
        classifier.logits(torch.ones(1, 1, 2).bfloat16(), 1.0, void=torch.ones(2)).dtype
        == torch.bfloat16
    )


def test_rows_and_class_ids_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and class ids \(3,\)"):
        TextClassifier(torch.eye(2), torch.tensor([0, 1, 2]))


def test_to_moves_both_tensors() -> None:
    moved = TextClassifier(torch.eye(2), torch.tensor([0, 1])).to("meta")
    assert (moved.embeddings.device.type, moved.class_ids.device.type) == ("meta", "meta")


WORDS = {"cat": (1.0, 0.0), "kitten": (3.0, 4.0), "a cat": (0.0, 1.0), "a kitten": (1.0, 1.0)}


class TestCache:
    def build(
        self, folder: Path, *, words: str = "cat, kitten", template: str = "{}", tower: str = "t"
    ) -> tuple[TextClassifier, int]:
        encoder = Encoder(WORDS)
        classifier = build_text_classifier(
            encoder,
            parse_vocabulary([words]),
            templates=(template,),
            cache_dir=folder,
            tower_fingerprint=tower,
            width=2,
        )
        return classifier, len(encoder.prompts)

    def test_the_second_time_nothing_is_encoded(self, tmp_path: Path) -> None:
        first, encoded = self.build(tmp_path / "deep" / "cache")
        second, encoded_again = self.build(tmp_path / "deep" / "cache")
        assert (encoded, encoded_again) == (2, 0)
        assert torch.equal(first.embeddings, second.embeddings)

    @pytest.mark.parametrize(
        "change",
        [{"tower": "other"}, {"template": "a {}"}, {"words": "kitten, cat"}, {"words": "cat"}],
    )
    def test_another_tower_template_or_word_is_encoded(self, tmp_path: Path, change: dict) -> None:
        self.build(tmp_path)
        assert self.build(tmp_path, **change)[1] > 0

    @pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100])
    def test_a_damaged_file_is_replaced_and_logged(
        self, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, _ = self.build(tmp_path)
        (path,) = tmp_path.iterdir()
        path.write_bytes(content)
        again, encoded = self.build(tmp_path)
        assert encoded == 2 and torch.equal(first.embeddings, again.embeddings)
        assert str(path) in caplog.text
        assert self.build(tmp_path)[1] == 0

    @pytest.mark.parametrize(
        "rows",
        [
            torch.ones(2, 2),
            torch.zeros(2, 2),
            torch.eye(2, dtype=torch.float64),
            torch.eye(2, 3),
            torch.eye(3, 2),
            torch.eye(2)[..., None],
            torch.tensor([[1.0, float("nan")], [0.0, 1.0]]),
        ],
    )
    def test_rows_that_no_encoder_gives_are_encoded_again(self, tmp_path, rows, caplog) -> None:
        first, _ = self.build(tmp_path)
        (path,) = tmp_path.iterdir()
        write_safetensors({"embeddings": rows}, path, {"format": "frozenseg-text-2"})
        again, encoded = self.build(tmp_path)
        assert encoded == 2 and torch.equal(first.embeddings, again.embeddings)
        assert "encoding the class names again" in caplog.text

    def test_a_flipped_bit_is_encoded_again(self, tmp_path: Path) -> None:
        first, _ = self.build(tmp_path)
        (path,) = tmp_path.iterdir()
        content = bytearray(path.read_bytes())
        content[-7] ^= 1
        path.write_bytes(content)
        again, encoded = self.build(tmp_path)
        assert encoded == 2 and torch.equal(first.embeddings, again.embeddings)

    def test_a_file_without_a_digest_is_encoded_again(self, tmp_path: Path) -> None:
        self.build(tmp_path)
        (path,) = tmp_path.iterdir()
        save_file({"embeddings": torch.eye(2)}, path, {"format": "frozenseg-text-2"})
        assert self.build(tmp_path)[1] == 2

    def test_a_cache_that_cannot_be_written_is_a_warning(self, tmp_path: Path, caplog) -> None:
        (tmp_path / "file").touch()
        classifier, encoded = self.build(tmp_path / "file" / "cache")
        assert encoded == 2 and classifier.num_classes == 1
        assert "are not kept for the next run" in caplog.text

    def test_a_failing_encoder_leaves_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError):
            self.build(tmp_path, words="zebra")
        assert list(tmp_path.iterdir()) == []


def test_encoding_comes_in_batches_and_reports_progress() -> None:
    sizes, reports = [], []

    def encode(prompts: list[str]) -> Tensor:
        sizes.append(len(prompts))
        return torch.tensor([[float(len(prompt)), 1.0] for prompt in prompts])

    vocabulary = parse_vocabulary(["x" * (n + 1) for n in range(40)])
    classifier = build_text_classifier(
        encode, vocabulary, progress=lambda done, total: reports.append((done, total))
    )
    assert classifier.embeddings.shape == (40, 2)
    assert max(sizes) <= 256 and sum(sizes) == 40 * 14
    assert reports[-1] == (560, 560)
