import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract import saved
from vedette.contract.errors import SavedError

RECORD = np.dtype([("filled", np.int64), ("averages", np.float64, (0,)), ("ready", np.bool_), ("rows", np.float32, (2, 3))], align=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), PLAIN))
def test_what_is_decoded_is_what_was_encoded(plain: dict[str, object]) -> None:
    assert saved.decode(saved.encode(plain)) == plain


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.array([np.nan, np.inf, -np.inf, -0.0]),
        np.zeros((0, 3)),
        np.zeros((3, 0), dtype=np.float32),
        np.array(True),
        np.zeros(4, dtype=RECORD),
    ],
)
def test_an_array_keeps_its_shape_type_and_values_and_may_be_written_to(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    found = saved.decode(saved.encode({"array": array}))["array"]
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


def test_what_is_no_plain_data_is_refused_when_it_is_saved() -> None:
    with pytest.raises(TypeError, match="object is no plain data"):
        saved.encode({"thing": object()})
    with pytest.raises(ValueError, match="Object arrays"):
        saved.encode({"thing": np.array([object()])})


ENCODED = saved.encode({"devices": np.zeros(3, dtype=RECORD), "names": ["a", "b"], "now": 3.5, "more": {"count": 2**40}})


@given(st.lists(st.tuples(st.integers(0, len(ENCODED) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, len(ENCODED)))
def test_damaged_bytes_are_read_or_refused_and_never_raise_anything_else(damage: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(ENCODED)
    for place, byte in damage:
        damaged[place] = byte
    for data in (bytes(damaged), bytes(damaged[:length]), ENCODED[:length]):
        with contextlib.suppress(SavedError):
            assert isinstance(saved.decode(data), dict)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(SavedError):
        saved.decode(data)


def test_every_state_that_is_cut_short_is_refused() -> None:
    for length in range(len(ENCODED)):
        with pytest.raises(SavedError, match="cannot be read"):
            saved.decode(ENCODED[:length])


def test_a_state_of_another_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "FORMAT", 99)
    later = saved.encode({})
    monkeypatch.undo()
    with pytest.raises(SavedError, match=f"of format 99, and this version reads {saved.FORMAT}"):
        saved.decode(later)


def test_an_array_of_objects_is_never_unpickled() -> None:
    harmless = saved.encode({"array": np.array([1, 2, 3], dtype="<i8")})
    with pytest.raises(SavedError, match="cannot be read"):
        saved.decode(harmless.replace(b"'<i8'", b"'|O' "))
