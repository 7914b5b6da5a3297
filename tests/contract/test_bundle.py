import io
import re
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import DOOR, TEMPERATURE, make_bundle
from vedette.contract import bundle as bundles
from vedette.contract import manifest as manifests
from vedette.contract.errors import BundleError, DigestError, FormatError, SelfTestError
from vedette.contract.scores import Calibration
from vedette.runtimes import load_scorer

DATA = make_bundle(features=(TEMPERATURE, DOOR))


def sealed(body: bytes) -> bytes:
    """A bundle with a right digest, whatever its body."""
    import hashlib

    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def archive(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in entries:
            file.writestr(name, data)
        file.comment = b" " * 71
    return sealed(buffer.getvalue()[:-71])


def test_open_gives_what_was_written() -> None:
    opened = bundles.read(DATA)
    files = bundles.with_golden(opened.files, opened.golden_windows, opened.golden_scores)
    assert bundles.write(opened.manifest, files) == DATA


def test_a_bundle_is_a_plain_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "x.vedette"
    path.write_bytes(DATA)
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None and file.namelist()[0] == "manifest.json"


def test_golden_windows_give_their_scores_again() -> None:
    opened = bundles.read(DATA)
    bundles.self_test(opened, load_scorer(opened))


def test_a_model_that_scores_differently_here_must_not_go_live() -> None:
    opened = bundles.read(DATA)
    with pytest.raises(SelfTestError, match=r"fridge 1\.0\.0 scores its golden windows differently"):
        bundles.self_test(opened._replace(golden_scores=opened.golden_scores + np.float32(0.01)), load_scorer(opened))


def test_a_manifest_from_before_there_were_narrower_weights_is_of_float32() -> None:
    manifest = bundles.read(DATA).manifest
    before = re.sub(rb',\s*"precision": "float32"', b"", manifests.encode(manifest))
    assert b"precision" not in before
    assert manifests.decode(before) == manifest
    assert manifest.precision == "float32"


def test_a_bundle_is_as_narrow_as_its_narrowest_stage() -> None:
    manifest = bundles.read(DATA).manifest
    (stage,) = manifest.stages
    narrow = tuple(msgspec.structs.replace(stage, name=name, precision=name) for name in ("float16", "int8"))
    assert msgspec.structs.replace(manifest, stages=(stage, narrow[0])).precision == "float16"
    assert msgspec.structs.replace(manifest, stages=(stage, *narrow)).precision == "int8"


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, change: int) -> None:
    damaged = bytearray(DATA)
    damaged[position] ^= change
    with pytest.raises(BundleError):
        bundles.read(bytes(damaged))


@given(st.integers(0, len(DATA) - 1))
def test_any_truncation_is_refused(length: int) -> None:
    with pytest.raises(BundleError):
        bundles.read(DATA[:length])


def test_files_must_be_those_of_the_manifest() -> None:
    opened = bundles.read(DATA)
    with zipfile.ZipFile(io.BytesIO(DATA)) as file:
        contents = [(name, file.read(name)) for name in file.namelist()]
    swapped = [(name, data + b"x" if name == "model.onnx" else data) for name, data in contents]
    with pytest.raises(DigestError, match="not those that its manifest lists"):
        bundles.read(archive(*swapped))
    with pytest.raises(DigestError):
        bundles.read(archive(*contents, ("more.txt", b"")))
    with pytest.raises(BundleError, match="not the files given"):
        bundles.write(opened.manifest, {})


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_with_tricks_are_refused() -> None:
    with pytest.raises(FormatError, match="twice"):
        bundles.read(archive(("manifest.json", b"{}"), ("manifest.json", b"{}")))
    with pytest.raises(FormatError, match="compressed"):
        bundles.read(archive(("manifest.json", b"0" * 10_000), compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(FormatError, match=r"no manifest\.json"):
        bundles.read(archive(("../manifest.json", b"{}")))
    with pytest.raises(FormatError, match="not a readable archive"):
        bundles.read(sealed(b"PK\x03\x04" + b"x" * 100))


@pytest.mark.parametrize("data", [b"", b"{}", b"PK\x03\x04", b"x" * 1000])
def test_something_else_is_not_a_bundle(data: bytes) -> None:
    with pytest.raises(FormatError, match="not a vedette bundle"):
        bundles.read(data)


@pytest.mark.parametrize(("found", "mend"), [(2, "update the agent"), (0, "export the model again")])
def test_another_format_says_what_to_do(found: int, mend: str) -> None:
    other = manifests.encode(bundles.read(DATA).manifest).replace(b'"format": 1', b'"format": %d' % found)
    with pytest.raises(FormatError, match=f"format {found}; this version of vedette reads format 1: {mend}"):
        bundles.read(archive(("manifest.json", other)))


def test_a_manifest_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(FormatError, match="unknown field"):
        manifests.decode(manifests.encode(bundles.read(DATA).manifest).replace(b'"format": 1', b'"format": 1, "more": 2'))


def test_an_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"missing\.vedette: No such file"):
        bundles.open_bundle(tmp_path / "missing.vedette")
    (tmp_path / "bad.vedette").write_bytes(b"bad")
    with pytest.raises(FormatError, match=r"bad\.vedette: not a vedette bundle"):
        bundles.open_bundle(tmp_path / "bad.vedette")


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=9))
def test_calibration_is_monotone_with_one_at_the_threshold(centre: float, threshold: float, raw: list[float]) -> None:
    if abs(centre - threshold) < 1e-6:
        return
    calibration = Calibration(centre=centre, threshold=threshold)
    scores = calibration.apply(np.array(sorted(raw), dtype=np.float32))
    assert (np.diff(scores) * np.sign(threshold - centre) >= 0).all()
    assert calibration.apply(np.array([threshold])) == pytest.approx(1.0)


def test_a_calibration_without_a_span_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"centre": 1.0, "threshold": 1.0}, Calibration)
