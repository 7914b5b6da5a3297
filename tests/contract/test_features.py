import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.features import (
    MAX_CATEGORIES,
    MAX_SIGMA,
    Categories,
    Category,
    DayOfWeek,
    FeatureEncoder,
    Number,
    TimeOfDay,
    Value,
    fit,
)

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


def test_a_list_sets_a_column_for_each_known_member_and_counts_the_rest() -> None:
    encoder = FeatureEncoder((Categories(name="roles", values=("admin", "user")),))
    assert encoder.columns == ["roles=admin", "roles=user"]
    found = rows(encoder, (["user", "ADMIN "],), (["user", "ghost"],), ([],), (None,), ("user",))
    assert found == [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    assert (encoder.counts["missing"], encoder.counts["unknown_category"]) == (1, 1)


def test_a_list_may_have_as_many_known_members_as_its_code_has_bits() -> None:
    names = tuple(f"r{i:02d}" for i in range(MAX_CATEGORIES))
    encoder = FeatureEncoder((Categories(name="roles", values=names),))
    assert rows(encoder, ([*names, "ghost"],)) == [[1.0] * MAX_CATEGORIES]
    assert encoder.counts["unknown_category"] == 1


def test_fit_keeps_the_most_frequent_members_where_there_are_too_many() -> None:
    (feature,) = fit((Categories(name="roles"),), [(["often", f"rare-{i:03d}"],) for i in range(100)])
    assert isinstance(feature, Categories)
    assert len(feature.values) == MAX_CATEGORIES
    assert "often" in feature.values


def test_times_of_day_and_week_go_round() -> None:
    encoder = FeatureEncoder((TimeOfDay(utc_offset_h=1), DayOfWeek(utc_offset_h=1)))
    assert encoder.columns == ["time_of_day.sin", "time_of_day.cos", "day_of_week.sin", "day_of_week.cos"]
    monday_6am = 1767589200.0  # 2026-01-05T05:00Z
    ((sine, cosine, *week),) = rows(encoder, (monday_6am, monday_6am))
    assert (sine, cosine) == pytest.approx((1, 0), abs=1e-6)
    assert week == pytest.approx([math.sin(2 * math.pi / 28), math.cos(2 * math.pi / 28)], abs=1e-6)
    ((*_, sine, cosine),) = rows(FeatureEncoder((TimeOfDay(waves=2),)), (86400.0 / 8,))
    assert (sine, cosine) == pytest.approx((1, 0), abs=1e-6)
    late, early = rows(encoder, (86400.0 * 9 - 3600 - 60,) * 2, (86400.0 * 9 - 3600 + 60,) * 2)
    assert late == pytest.approx(early, abs=0.01)


def test_a_soft_clip_is_linear_up_to_its_limit_and_logarithmic_beyond() -> None:
    encoder = FeatureEncoder((Number(name="x", clip=5),))
    ((inside,), (edge,), (beyond,), (below,)) = rows(encoder, (4.5,), (5.0,), (5.0 + math.e - 1,), (-1e9,))
    assert (inside, edge, beyond) == pytest.approx((4.5, 5.0, 6.0))
    assert below == pytest.approx(-5 - math.log1p(MAX_SIGMA - 5))


def test_an_averaged_number_has_a_second_column_which_belongs_to_it() -> None:
    encoder = FeatureEncoder((Number(name="x", averages=(2, 8)), DOOR, Number(name="y"), Number(name="z", averages=(4,))))
    assert encoder.columns == ["x", "door=closed", "door=open", "y", "z", "x~2", "x~8", "z~4"]
    assert encoder.feature_of_column == [0, 1, 1, 2, 3, 0, 0, 3]
    assert encoder.averages == ((5, 2), (6, 8), (7, 4))


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (0, 3.25, 3.25),
        (1, "open", "open"),
        (1, "ajar", None),
        (2, ["b", "a"], "a, b"),
        (3, 86400.0 + 3661, "01:01"),
        (4, 86400.0, "Friday"),
    ],
)
def test_an_encoded_value_can_be_told_to_people(index: int, value: Value, words: object) -> None:
    encoder = FeatureEncoder((Number(name="x"), DOOR, Categories(name="roles", values=("a", "b")), TimeOfDay(), DayOfWeek()))
    values: list[Value] = [0.0, "open", [], 0.0, 0.0]
    values[index] = value
    assert encoder.observed(index, encoder.encode([values])[0, index]) == words
