import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.features import MAX_SIGMA, Category, FeatureEncoder, Number, Value, fit

TEMPERATURE = Number(name="temperature", minimum=-40, maximum=60, mean=4.0, scale=2.0)
DOOR = Category(name="door", values=("closed", "open"))


def rows(encoder: FeatureEncoder, *values: tuple[Value, ...]) -> list[list[float]]:
    result: list[list[float]] = encoder.transform(encoder.encode(values)).tolist()
    return result


def test_numbers_are_scaled_and_categories_set_one_column() -> None:
    encoder = FeatureEncoder((TEMPERATURE, DOOR))
    assert encoder.columns == ["temperature", "door=closed", "door=open"]
    assert rows(encoder, (8.0, "open"), (4.0, "closed")) == [[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


def test_text_is_stripped_and_case_folded_by_default() -> None:
    encoder = FeatureEncoder((DOOR,))
    assert rows(encoder, ("open",), (" Open ",), ("OPEN  ",)) == [[0.0, 1.0]] * 3


def test_raw_text_keeps_its_spaces() -> None:
    encoder = FeatureEncoder((Category(name="door", values=("open", "open "), text="raw"),))
    assert rows(encoder, ("open",), ("open ",), ("Open",)) == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def test_one_and_true_are_the_same_category_as_number_and_as_text() -> None:
    encoder = FeatureEncoder((Category(name="state", values=("1", "true")),))
    assert rows(encoder, (1,), (1.0,), ("1",)) == [[1.0, 0.0]] * 3
    assert rows(encoder, (True,), ("True",)) == [[0.0, 1.0]] * 2


def test_an_unknown_category_sets_no_column_and_is_counted() -> None:
    encoder = FeatureEncoder((DOOR,))
    assert rows(encoder, ("ajar",), (None,)) == [[0.0, 0.0]] * 2
    assert encoder.counts["unknown_category"] == 1 and encoder.counts["missing"] == 1


def test_impossible_and_absent_numbers_are_filled_and_counted() -> None:
    encoder = FeatureEncoder((TEMPERATURE,))
    assert rows(encoder, (-273.0,), (61.0,), (math.nan,)) == [[0.0]] * 3
    assert encoder.counts["out_of_range"] == 2 and encoder.counts["missing"] == 1


def test_a_fill_value_is_in_the_sensors_unit() -> None:
    assert rows(FeatureEncoder((Number(name="x", mean=4.0, scale=2.0, fill=6.0),)), (math.nan,)) == [[1.0]]


def test_one_absurd_number_cannot_overflow() -> None:
    assert rows(FeatureEncoder((Number(name="x"),)), (1e300,), (-1e300,)) == [[MAX_SIGMA], [-MAX_SIGMA]]


def test_large_magnitudes_are_centred_before_the_cast() -> None:
    # Epoch seconds in float32 are only good to 128 s.
    encoder = FeatureEncoder((Number(name="ts", mean=1.79e9, scale=1.0),))
    assert rows(encoder, (1.79e9 + 3.25,)) == [[3.25]]


def test_fit_learns_from_usable_values_only() -> None:
    number, category = fit(
        (Number(name="t", minimum=0, maximum=10), Category(name="c")),
        [(2.0, "B "), (4.0, "a"), (math.nan, None), (1e9, "b")],
    )
    assert isinstance(number, Number) and (number.mean, number.scale) == (3.0, 1.0)
    assert isinstance(category, Category) and (category.values, category.usual) == (("a", "b"), "b")


def test_fit_keeps_the_values_that_the_recipe_names() -> None:
    (category,) = fit((Category(name="c", values=("x", "y")),), [("z",)])
    assert isinstance(category, Category) and category.values == ("x", "y")


def test_a_constant_is_not_divided_by_nothing() -> None:
    (number,) = fit((Number(name="t"),), [(5.0,), (5.0,)])
    assert isinstance(number, Number) and number.scale == 1.0


NUMBER = st.floats(allow_infinity=False)
TEXT = st.none() | st.sampled_from(["open", " CLOSED", "ajar", ""]) | st.booleans() | st.integers(0, 3)


@given(st.lists(st.tuples(NUMBER, TEXT), min_size=1, max_size=20), st.data())
def test_a_batch_gives_what_its_parts_give(values: list[tuple[Value, ...]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    encoder = FeatureEncoder((TEMPERATURE, DOOR))
    whole = encoder.transform(encoder.encode(values))
    parts = [encoder.transform(encoder.encode(part)) for part in (values[:cut], values[cut:]) if part]
    assert np.array_equal(whole, np.concatenate(parts)) and np.isfinite(whole).all()


@pytest.mark.parametrize("spec", [(TEMPERATURE,), (DOOR,), (TEMPERATURE, DOOR)])
def test_an_empty_batch_has_no_rows(spec: tuple[Number | Category, ...]) -> None:
    encoder = FeatureEncoder(spec)
    assert encoder.transform(encoder.encode([])).shape == (0, len(encoder.columns))
