"""Allowed values: every key has a rule, defaults and shipped files obey, mistakes are named."""

import pytest

from frozenseg.config import ConfigError, check_config, default_config, known_keys, load_config
from frozenseg.config.allowed import ALLOWED, fixed_keys
from frozenseg.config.rules import number, one_of, sequence, text, whole

MISTAKES = {
    "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": ("0", "a whole number from 1 to 4,096; got 0"),
    "TEST.DETECTIONS_PER_IMAGE": ("-1", "a whole number from 1"),
    "MODEL.MASK_FORMER.NHEADS": ("0", "a whole number from 1"),
    "MODEL.SEM_SEG_HEAD.MASK_DIM": ("-1", "a whole number from 1"),
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": ("1000000000", "a whole number from 1 to 10,000"),
    "MODEL.FROZEN_SEG.QUERY_INJECTOR_LAYERS": ("('a',)", "each a whole number from 1 to 100"),
    "DATASETS.TRAIN": ("(0,)", "each printable text"),
    "INPUT.MIN_SIZE_TEST": ("-5", "a whole number from 1 to 32,768"),
    "MODEL.PIXEL_STD": ("(0,0,0)", "3 values, each a number above 0"),
    "MODEL.PIXEL_MEAN": ("(0,0)", "3 values, each a number from 0 to 255"),
    "MODEL.FROZEN_SEG.GEOMETRIC_ENSEMBLE_ALPHA": ("1e9", "a number from 0 to 1; got 1000000000.0"),
    "MODEL.FC_CLIP.GEOMETRIC_ENSEMBLE_BETA": ("-0.1", "a number from 0 to 1"),
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": ("-3", "a number from 0 to 1"),
    "INPUT.FORMAT": ("XYZ", "'RGB'; got 'XYZ'"),
    "MODEL.DEVICE": ("meta", "one GPU such as cuda:1; got 'meta'"),
    "OUTPUT_DIR": ("a\0b", "the path of a folder"),
    "MODEL.WEIGHTS": ("a\x1b]0;", "printable text"),
    "MODEL.BACKBONE.NAME": ("build_resnet_backbone", "'CLIP'"),
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": ("FPN", "'MSDeformAttnPixelDecoder'"),
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": ("X", "'MultiScaleMaskedTransformerDecoder'"),
    "MODEL.MASK_FORMER.ENC_LAYERS": ("3", "0; got 3"),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ("0", "a number above 0"),
}


def test_every_key_has_a_rule_and_every_rule_a_key() -> None:
    assert set(ALLOWED) == set(known_keys())


def test_the_defaults_are_allowed() -> None:
    check_config(default_config())


@pytest.mark.parametrize("key", MISTAKES)
def test_a_value_out_of_range_is_named_with_what_is_allowed(key: str) -> None:
    value, sentence = MISTAKES[key]
    with pytest.raises(ConfigError) as raised:
        load_config(None, [key, value])
    assert f"the command line: {key} must be" in str(raised.value)
    assert sentence in str(raised.value)


def test_a_file_with_a_wrong_value_is_named(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("INPUT:\n  FORMAT: XYZ\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: INPUT\.FORMAT must be 'RGB'"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["MODEL.MASK_FORMER.HIDDEN_DIM", "128"], "CONVS_DIM is 256 but .*HIDDEN_DIM is 128"),
        (["MODEL.MASK_FORMER.NHEADS", "7"], "which MODEL.MASK_FORMER.NHEADS .7. does not divide"),
        (
            ["MODEL.MASK_FORMER.HIDDEN_DIM", "40", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "40"],
            "multiple of 32",
        ),
        (["MODEL.MASK_FORMER.DEC_LAYERS", "6"], "names layer 6: layers are 1 to 5"),
        (["INPUT.MIN_SCALE", "3.0"], "MIN_SCALE is 3.0 but INPUT.MAX_SCALE is 2.0"),
    ],
)
def test_values_that_contradict_each_other_are_named(overrides, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(None, overrides)


def test_keys_of_one_choice_are_known() -> None:
    assert {"INPUT.FORMAT", "SOLVER.OPTIMIZER"} <= fixed_keys()
    assert "MODEL.WEIGHTS_TOWERS" not in fixed_keys()


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (whole(1, 3), [1, 3], [0, 4, 1.0, True, "1", None]),
        (number(0, 1), [0, 1.0, 0.5], [-0.1, 1.1, float("nan"), float("inf"), True, "0"]),
        (number(0, float("inf"), above=True), [2.0, float("inf")], [0, float("nan")]),
        (one_of(0.0), [0.0], [False, 0, 0.1]),
        (sequence(whole(1, 9), length=2), [(1, 2), [3, 4]], [(1,), (1, 2, 3), (1, "2"), 12]),
        (text("a+", "many a"), ["a", "aaa"], ["", "b", "a\n", 1]),
    ],
)
def test_rules_accept_what_they_say(rule, good, bad) -> None:
    assert all(rule.fits(value) for value in good)
    assert not any(rule.fits(value) for value in bad)
