import gzip
import json
import logging
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.contract.errors import HistoryError
from vedette.contract.readings import MAX_TIME, Message
from vedette.contract.recordings import RecordingWriter, is_recording, read_messages, read_objects

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s))
PAYLOADS = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace")),
    st.sampled_from(
        [b"", b" 1", b"1 ", b"007", b"NaN", b'"text"', b'1,"payload":2', b'{"a":1}}', b'{"a":"\xff"}', b'"\\ud800"', b"[" * 2000, b"\0"]
    ),
)
MESSAGES = st.builds(Message, st.text(min_size=1), PAYLOADS, st.floats(0, MAX_TIME), st.booleans())


def write(path: Path, messages: list[Message]) -> Path:
    with RecordingWriter(path) as writer:
        for message in messages:
            writer.write(message)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@given(messages=st.lists(MESSAGES, max_size=20))
def test_every_byte_of_every_message_is_read_back(tmp_path_factory: pytest.TempPathFactory, suffix: str, messages: list[Message]) -> None:
    path = write(tmp_path_factory.mktemp("r") / f"day{suffix}", messages)
    assert list(read_messages(path)) == messages


def test_a_payload_stands_as_what_it_is_where_that_keeps_it(tmp_path: Path) -> None:
    payloads = [b'{"t": 4.10}', b"21.5", b"open", b'"open"', b'{\n "t": 4\n}', b"\xff\0"]
    path = write(tmp_path / "day.jsonl", [Message("a", payload, 1.5) for payload in payloads])
    assert path.read_text().splitlines() == [
        '{"time":1.5,"topic":"a","payload":{"t": 4.10}}',
        '{"time":1.5,"topic":"a","payload":21.5}',
        '{"time":1.5,"topic":"a","payload":"open"}',
        '{"time":1.5,"topic":"a","payload":"\\"open\\""}',
        '{"time":1.5,"topic":"a","payload":"{\\n \\"t\\": 4\\n}"}',
        '{"time":1.5,"topic":"a","payload_base64":"/wA="}',
    ]


def test_history_takes_a_payload_that_is_json_as_such_however_it_was_written(tmp_path: Path) -> None:
    path = write(tmp_path / "day.jsonl", [Message("a", p, 1.0) for p in (b'{"t": 4}', b'{\n "t": 4\n}', b'\n{"t":4}', b"open", b"\xff")])
    found = [json.loads(line).get("payload") for _, line in read_objects(path)]
    assert found == [{"t": 4}, {"t": 4}, {"t": 4}, "open", None]


def test_only_a_file_whose_first_line_is_a_message_is_a_recording(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"ts": 1, "topic": "a"}\n')
    (tmp_path / "other.jsonl").write_text("\xff no json\n")
    (tmp_path / "none.jsonl").write_text("")
    assert not any(is_recording(tmp_path / f"{name}.jsonl") for name in ("rows", "other", "none"))
    assert is_recording(write(tmp_path / "day.jsonl.gz", [Message("a", b"\xff", 1.0)]))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_only_its_owner_may_read_a_recording(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"day{suffix}"
    path.touch(mode=0o644)
    assert stat.S_IMODE(write(path, []).stat().st_mode) == 0o600
    assert list(read_messages(path)) == []


TEN = [Message(f"plant/{number}", b'{"t": 4}' * (number % 3), float(number)) for number in range(10)]


@pytest.mark.parametrize("tail", [b'{"time":10.0,"to', b"\0\0\0\0", b'{"time":10.0,"topic":"a","payload":"caf\xc3'])
def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, tail: bytes) -> None:
    path = write(tmp_path / "day.jsonl", TEN)
    path.write_bytes(path.read_bytes() + tail)
    assert list(read_messages(path)) == TEN
    assert caplog.messages == [f"{path}: cut off in line 11: read up to there"]


def test_a_last_line_that_is_whole_needs_no_line_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "day.jsonl", TEN)
    path.write_bytes(path.read_bytes().rstrip())
    assert list(read_messages(path)) == TEN
    assert not caplog.messages


def test_a_line_in_the_middle_that_is_no_message_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "day.jsonl", TEN)
    path.write_bytes(path.read_bytes() + b'{"time":10.0,"to\n')
    with pytest.raises(HistoryError, match="line 11"):
        list(read_messages(path))


def test_a_packed_recording_that_was_never_closed_is_read_up_to_its_last_flush(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "day.jsonl.gz"
    with RecordingWriter(path) as writer:
        for message in TEN:
            writer.write(message)
        writer.flush()
        left = path.read_bytes()
    path.write_bytes(left)
    assert list(read_messages(path)) == TEN
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "after line 10" in caplog.text


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_packed_recording_that_is_cut_anywhere_gives_what_is_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: float
) -> None:
    messages = [Message(f"plant/{number * 7919 % 1000}", str(number * 104729).encode(), float(number)) for number in range(20_000)]
    path = write(tmp_path / "day.jsonl.gz", messages)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    found = list(read_messages(path))
    assert found == messages[: len(found)]
    assert abs(len(found) / len(messages) - kept) < 0.2
    assert len(caplog.messages) == 1


def test_a_packed_recording_whose_bytes_were_altered_is_refused(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b'{"time":1,"topic":"a","payload":1}\n' * 9))
    data[-6] ^= 1  # the checksum
    (tmp_path / "day.jsonl.gz").write_bytes(data)
    with pytest.raises(HistoryError, match="CRC"):
        list(read_messages(tmp_path / "day.jsonl.gz"))


def test_a_full_disk_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(HistoryError, match=r"day.jsonl: cannot be written: No space left on device"):
        write(path, TEN)


def test_labels_stand_beside_a_message_and_are_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    with RecordingWriter(path) as writer:
        writer.write(TEN[1], label=1, fault="door")
    assert list(read_messages(path)) == TEN[1:2]
    assert json.loads(path.read_text()) | {"label": 1, "fault": "door"} == json.loads(path.read_text())
