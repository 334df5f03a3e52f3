"""What holds for every input, tried with hypothesis, which also finds the smallest one."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from frozenseg.config import known_keys, load_config
from frozenseg.data.images import read_image
from frozenseg.errors import UserError
from frozenseg.vocabulary import parse_vocabulary

quick = settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ARRAYS = hnp.arrays(
    dtype=st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=3)),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@quick
@given(st.text(max_size=40) | st.lists(st.text(max_size=12), max_size=4))
def test_a_vocabulary_is_read_or_refused(value):
    try:
        vocabulary = parse_vocabulary(value)
    except UserError as error:
        assert str(error) and len(str(error)) < 1000
        return
    assert all(word.strip() == word != "" for words in vocabulary.synonyms for word in words)


@quick
@given(ARRAYS)
def test_an_array_is_an_image_or_refused(array: np.ndarray):
    try:
        image = read_image(array)
    except UserError:
        return
    assert image.shape[0] == 3 and str(image.dtype) == "torch.uint8"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@quick
@given(st.sampled_from(known_keys()), VALUES)
def test_a_key_of_a_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    path = tmp_path_factory.getbasetemp() / "case.yaml"
    path.write_text(json.dumps(value))  # JSON is YAML but for some numbers and characters
    try:
        load_config(path)
    except UserError as error:
        assert str(error) and len(str(error)) < 1500
