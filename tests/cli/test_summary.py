import re

import pytest


def test_the_counts_are_those_of_the_published_model_and_need_no_download(run, monkeypatch) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    result = run("summary", "frozenseg_convnext_large.yaml")
    assert result.exit_code == 0, result.output
    assert {"26,497,153", "445,508,081"} <= set(result.output.split())


def test_overrides_count(run) -> None:
    def trained(*overrides: str) -> int:
        row = re.search(r"all\s+│\s+([\d,]+)", run("summary", "shapes", *overrides).output)
        return int(row[1].replace(",", ""))

    more = trained("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "31")
    assert more - trained() == 2 * 64  # a feature and a position


def test_an_unknown_key_is_a_sentence(run) -> None:
    result = run("summary", "shapes", "MODEL.SAM", "x")
    assert result.exit_code == 2
    assert "unknown key MODEL.SAM" in result.output


def test_members_of_the_family_are_parts_of_their_own(run) -> None:
    adapter = run("summary", "mask-adapter-fcclip-convnext-large")
    assert "mask adapter" in adapter.output and "14,907,568" in adapter.output
    maft_plus = run("summary", "maft-plus-convnext-large")
    assert "text transfer" in maft_plus.output and "2,954,496" in maft_plus.output


def cells_of(text: str, part: str) -> list[str]:
    row = next(line for line in text.splitlines() if f"│ {part}" in line)
    return [cell.strip() for cell in row.split("│")[2:-1]]


@pytest.mark.parametrize(
    ("model", "scale"), [("ovrcoat-convnext-large", 1), ("maft-plus-convnext-large", 0)]
)
def test_an_image_encoder_that_is_trained_is_counted_so_and_named(run, model, scale) -> None:
    result = run("summary", model)
    # 196.2 M of ConvNeXt-L below its head, which is a norm and a perceptron
    assert cells_of(result.output, "CLIP image encoder") == ["196,227,264", "3,543,552"]
    assert cells_of(result.output, "CLIP text encoder")[0] == str(scale)
    assert "stored with the weights: CLIP image encoder, except its head" in result.output
    assert "stored" not in run("summary", "fcclip-convnext-large").output


def test_an_image_encoder_of_the_weights_file_is_counted_apart_and_named(run) -> None:
    result = run("summary", "ovrcoat-convnext-large", "MODEL.BACKBONE.FREEZE", "True")
    row = next(line for line in result.output.splitlines() if "│ CLIP image encoder" in line)
    assert [cell.strip() for cell in row.split("│")[2:5]] == ["0", "0", "199,770,816"]
    assert "from the weights file" in result.output
    assert "stored with the weights: CLIP image encoder" in result.output
    assert "weights file" not in run("summary", "fcclip-convnext-large").output
