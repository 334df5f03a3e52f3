import json

import pytest

QUICK = ["--device", "cpu", "--limit", 1, "--repeats", 1]


def test_models_stand_side_by_side(run):
    result = run(
        "benchmark",
        *("--model", "shapes", "--model", "ablations/shapes/table4_2_baseline.yaml"),
        *("--random", "--size", "64x96", *QUICK),
    )
    assert result.exit_code == 0, result.output
    rows = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if "│" in line}
    for title in ("trained parameters [M]", "multiply-adds [G]", "images per second"):
        assert title in rows
    cells = [cell.strip() for cell in rows["SAM image encoder [ms]"].split("│")[2:4]]
    assert float(cells[0]) > 0 and cells[1] == "-"


def test_members_of_the_family_are_measured(run):
    adapted = run(
        *("benchmark", "--random", "--size", "64x96", "--json", *QUICK),
        *("--model", "shapes/mask_adapter.yaml", "--model", "shapes"),
        *("MODEL.OVRCOAT.CLIP_TRUST_WEIGHT", "0.5"),
    )
    assert adapted.exit_code == 0, adapted.output
    adapter, shapes = json.loads(adapted.stdout)
    parts = {part["part"]: part["trained"] for part in adapter["parameters"]}
    assert parts["mask adapter"] == parts["all"] - shapes["parameters"][-1]["trained"] > 0
    assert adapter["multiply_adds"]["the rest"] > shapes["multiply_adds"]["the rest"]
    assert adapter["stages"]["class ensemble (eq. 3)"] > 0


def test_json_has_every_number(run):
    result = run("benchmark", "--dataset", "shapes", "--json", *QUICK)
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert report["model"] == "shapes" and report["images_per_second"] > 0
    assert report["parameters"][-1]["part"] == "all" and report["multiply_adds"]["all"] > 1e8
    assert report["stages"]["post-processing"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "800"], "'800' is not a size"),
        (["--weights", "a", "--weights", "b"], "1 models but 2 --weights"),
        (["--weights", "a", "--random"], "exclude each other"),
    ],
)
def test_mistakes_are_named(run, arguments: list[str], words: str):
    result = run("benchmark", *arguments)
    assert result.exit_code == 2 and words in " ".join(result.stderr.split())
