"""Bundles: the one file that a gateway needs, `NAME-VERSION.vedette`.

A bundle is a zip, nothing in it compressed, whose archive comment is the SHA-256 of every byte before it. Rules this module
keeps: sizes and digests are checked before anything is parsed; the names in the archive are exactly those of the manifest; equal
contents give equal bytes; nothing is ever unpickled or written to a path that an archive names.
"""

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vedette.contract import manifest as manifests
from vedette.contract.errors import BundleError, DigestError, FormatError, SelfTestError
from vedette.contract.features import Rows
from vedette.contract.manifest import FileEntry, Manifest
from vedette.contract.scores import Scorer, Scores

MAX_BUNDLE_BYTES = 64 * 1024**2
SUFFIX = ".vedette"
SELF_TEST_TOLERANCE = 1e-4
"""How far a golden score may be off on another processor, relative to max(1, score)."""

INTEGER_TOLERANCE = 1e-3
"""And where a stage computes in integers: what differs in its last digit may be rounded to the next integer (ADR 0010)."""

_MANIFEST = "manifest.json"
_GOLDEN_WINDOWS = "golden/windows.npy"
_GOLDEN_SCORES = "golden/scores.npy"
_COMMENT_PREFIX = b"sha256:"
_COMMENT_BYTES = len(_COMMENT_PREFIX) + 64
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Bundle(NamedTuple):
    """An opened bundle whose bytes are those that were written.

    Attributes:
        files: The model files' bytes by name.
        golden_windows: float32 `(n, steps, columns)`.
        golden_scores: float32 `(n,)`, what the models gave for them where the bundle was made.
        sha256: Of the whole file.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    golden_windows: Rows
    golden_scores: Scores
    sha256: str


def file_name(manifest: Manifest) -> str:
    """`NAME-VERSION.vedette`."""
    return f"{manifest.name}-{manifest.version}{SUFFIX}"


def entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Sizes and digests of files, for a manifest."""
    return {name: FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())}


def with_golden(files: Mapping[str, bytes], windows: Rows, scores: Scores) -> dict[str, bytes]:
    """The model files and the golden windows with their scores: all that a manifest's `files` must list."""
    return {**files, _GOLDEN_WINDOWS: _array_bytes(windows), _GOLDEN_SCORES: _array_bytes(scores)}


def write(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """Pack a bundle.

    Args:
        manifest: Its `files` must be `entries(files)`.
        files: From `with_golden`.

    Returns:
        The bundle's bytes, the same for the same arguments.
    """
    if manifest.files != entries(files):
        raise BundleError("the manifest's files are not the files given")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [(_MANIFEST, manifests.encode(manifest)), *sorted(files.items())]:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
        archive.comment = b" " * _COMMENT_BYTES
    body = buffer.getvalue()[:-_COMMENT_BYTES]
    return body + _COMMENT_PREFIX + hashlib.sha256(body).hexdigest().encode()


def read(data: bytes) -> Bundle:
    """Verify a bundle's bytes and open it. Loads no model: see `self_test` for that.

    Raises:
        FormatError: not a bundle, too large, or of a format that this version does not read.
        DigestError: some byte is not what was written.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise FormatError(f"{len(data)} bytes, more than the {MAX_BUNDLE_BYTES} that a bundle may have")
    body, comment = data[:-_COMMENT_BYTES], data[-_COMMENT_BYTES:]
    if not data.startswith(b"PK\x03\x04") or not comment.startswith(_COMMENT_PREFIX):
        raise FormatError("not a vedette bundle, or cut short: export or copy it again")
    if hashlib.sha256(body).hexdigest().encode() != comment[len(_COMMENT_PREFIX) :]:
        raise DigestError("damaged: its bytes do not match its digest; copy it again")
    contents = _unzip(data)
    if _MANIFEST not in contents:
        raise FormatError(f"no {_MANIFEST} in it")
    manifest = manifests.decode(contents.pop(_MANIFEST))
    if manifest.files != entries(contents):
        raise DigestError("its files are not those that its manifest lists")
    windows, scores = _array(contents, _GOLDEN_WINDOWS, 3), _array(contents, _GOLDEN_SCORES, 1)
    if len(windows) != len(scores) or not len(windows):
        raise FormatError("golden windows and scores do not belong together")
    return Bundle(manifest, contents, windows, scores, hashlib.sha256(data).hexdigest())


def open_bundle(path: Path) -> Bundle:
    """Read and verify the bundle at `path`.

    Raises:
        BundleError: as `read`, with the path in front, or the file cannot be read.
    """
    data = read_file(path)
    try:
        return read(data)
    except BundleError as error:
        raise type(error)(f"{path}: {error}") from error


def read_file(path: Path) -> bytes:
    """The bytes at `path`, before anything is believed of them; never more than a bundle may have.

    Raises:
        BundleError: it is no plain file, too large, or cannot be read.
    """
    try:
        # Not blocking: a named pipe would wait for a writer before anything could be asked of it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FormatError(f"{path}: not a file")
            # What a file says of its size may change while it is read.
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_BUNDLE_BYTES:
        raise FormatError(f"{path}: larger than {MAX_BUNDLE_BYTES} bytes, more than a bundle may have")
    return data


def self_test(bundle: Bundle, scorer: Scorer) -> float:
    """Score the golden windows on this machine and compare.

    Returns:
        The largest difference, relative to max(1, score).

    Raises:
        SelfTestError: a score differs by more than SELF_TEST_TOLERANCE, or INTEGER_TOLERANCE where a stage computes in integers.
        ScoreError: a model does not run.
    """
    scores = scorer.score(bundle.golden_windows)
    difference = np.abs(scores - bundle.golden_scores) / np.maximum(1.0, np.abs(bundle.golden_scores))
    in_integers = any(stage.computes_in_integers for stage in bundle.manifest.stages)
    if not (worst := float(difference.max())) <= (INTEGER_TOLERANCE if in_integers else SELF_TEST_TOLERANCE):
        raise SelfTestError(
            f"on this machine {bundle.manifest.name} {bundle.manifest.version} scores its golden windows differently "
            f"(by up to {worst:.2g}); it must not go live here"
        )
    return worst


def _unzip(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len({info.filename for info in infos}) != len(infos):
                raise FormatError("a name is in it twice")
            if any(info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data) for info in infos):
                raise FormatError("a file in it is compressed or larger than the whole")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise FormatError(f"not a readable archive: {error}") from error


def _array_bytes(array: Rows | Scores) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array, dtype="<f4"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _array(contents: dict[str, bytes], name: str, dimensions: int) -> Rows:
    if name not in contents:
        raise FormatError(f"no {name} in it")
    try:
        array: Rows = np.lib.format.read_array(io.BytesIO(contents.pop(name)), allow_pickle=False)
    except Exception as error:  # because what numpy's reader raises on bytes that it did not write is a dozen kinds, and means one thing
        raise FormatError(f"{name}: {error}") from error
    if array.dtype != np.dtype("<f4") or array.ndim != dimensions:
        raise FormatError(f"{name}: expected float32 with {dimensions} dimensions")
    return array
