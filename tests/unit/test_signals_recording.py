"""Recordings: as a logger leaves them, as programs write them, and what is refused."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.signals import Recording
from protocol.errors import BadRecording

DATA = Path(__file__).parents[3] / "shared" / "data" / "carobd"
FILES = ["drive1", "drive3", "idle1", "live1", "long8", "ufpe1"]


def read(tmp_path: Path, content: str | bytes) -> dict[str, list[object]]:
    """The signals of a file with this content; "-" stands for a missing sample."""
    path = tmp_path / "recording.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    recording = Recording.open(path)
    return {
        name: ["-" if math.isnan(x) else x for x in recording.samples(name, 0, len(recording))]
        for name in recording.signals
    }


def pandas_reads(path: Path) -> pd.DataFrame:
    with path.open() as file:
        width = len(file.readline().split(","))
    table = pd.read_csv(path, index_col=False, skipinitialspace=True, usecols=range(width))
    return table.rename(columns=lambda title: title.removesuffix("()").strip())


@pytest.mark.parametrize("name", FILES)
def test_real_recordings_are_read_as_pandas_reads_them(name: str) -> None:
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{path} is absent: the recordings of ../shared/data are needed")
    recording, table = Recording.open(path), pandas_reads(path)
    assert list(recording.signals) == list(table.columns)
    assert "VEHICLE_SPEED" in recording.signals
    assert set(recording.signals.values()) == {""}
    for signal in recording.signals:
        samples = recording.samples(signal, 0, len(recording))
        np.testing.assert_array_equal(np.asarray(samples), table[signal].to_numpy(np.float64))


def test_a_loggers_file_does_not_shift_its_columns(tmp_path: Path) -> None:
    content = "SPEED (),RPM ()\r\n 1.50, 800.0,\r\n 2.25,\t900.0,\r\n"
    assert read(tmp_path, content) == {"SPEED": [1.5, 2.25], "RPM": [800.0, 900.0]}


NUMBERS = st.floats(allow_infinity=False)


@given(
    table=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=10).filter(
        lambda rows: any(not math.isnan(x) for row in rows for x in row)
    ),
    index=st.booleans(),
    width=st.sampled_from([1, 2]),
)
def test_what_pandas_writes_is_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[float, float]],
    index: bool,
    width: int,
) -> None:
    frame = pd.DataFrame(table, columns=["a", "b"]).iloc[:, :width]
    if frame.isna().all(axis=None):
        return
    path = tmp_path_factory.getbasetemp() / "frame.csv"
    frame.to_csv(path, index=index)
    recording = Recording.open(path)
    assert list(recording.signals) == list(frame.columns)
    for name in frame.columns:
        samples = recording.samples(name, 0, len(recording))
        np.testing.assert_array_equal(np.asarray(samples), frame[name].to_numpy())


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("A,B\n1,2\n", {"A": [1.0], "B": [2.0]}),
        ("A,B\n1,2", {"A": [1.0], "B": [2.0]}),
        ("\ufeffA,B\n1,2\n", {"A": [1.0], "B": [2.0]}),
        ('  "A", "B, C"\n "1", 2\n', {"A": [1.0], "B, C": [2.0]}),
        ("A,B\n1\n3,4\n", {"A": [1.0, 3.0], "B": ["-", 4.0]}),
        ("A,B\n1,x\nNA,4\n,\n", {"A": [1.0, "-", "-"], "B": ["-", 4.0, "-"]}),
        ("A,B\n1_0,0x10\n5,6\n", {"A": ["-", 5.0], "B": ["-", 6.0]}),
        ("A,B\n1,2, ,,\n1,2,3\n", {"A": [1.0, "-"], "B": [2.0, "-"]}),
        ("A,B\n1,2\n\n   \n3,4\n\n", {"A": [1.0, 3.0], "B": [2.0, 4.0]}),
        ('A\n1\n""\n3\n', {"A": [1.0, "-", 3.0]}),
        (",A,\n0,1,7\n1,2,8\n", {"A": [1.0, 2.0]}),
        ("T;A\n1,5;2\n", {"T": [1.5], "A": [2.0]}),
        ("T\tA\n1.5\t2\n", {"T": [1.5], "A": [2.0]}),
        ("BRAKE,A\nTrue,1\nfalse,2\n", {"BRAKE": [1.0, 0.0], "A": [1.0, 2.0]}),
        ("A,TIME\n1,12:30\n", {"A": [1.0], "TIME": ["-"]}),
        (b"A (\xb0C),B\n1,2\n", {"A": [1.0], "B": [2.0]}),
        ("A,B\r1,2\r3,4\r", {"A": [1.0, 3.0], "B": [2.0, 4.0]}),
        ("A\ninf\n1e3\n", {"A": [math.inf, 1000.0]}),
    ],
)
def test_other_files_are_read_too(
    tmp_path: Path, content: str | bytes, wanted: dict[str, list[object]]
) -> None:
    assert read(tmp_path, content) == wanted


def test_blank_lines_are_those_of_pandas(tmp_path: Path) -> None:
    content = "A,B\n1,2\n\n   \n,\n3,4\n"
    table = pd.read_csv(io.StringIO(content), index_col=False, skipinitialspace=True)
    assert len(read(tmp_path, content)["A"]) == len(table) == 3


def test_units_are_split_off_unless_they_tell_two_names_apart(tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    path.write_text(
        "SPEED (km/h), RPM () ,TEMP (bank 1),TEMP (bank 2),LOAD(%),f(x) (m),V [V]\n1,2,3,4,5,6,7\n"
    )
    assert dict(Recording.open(path).signals) == {
        "SPEED": "km/h", "RPM": "", "TEMP (bank 1)": "", "TEMP (bank 2)": "", "LOAD": "%",
        "f(x)": "m", "V [V]": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "line", "sentence"),
    [
        ("", 1, "line 1 names no column"),
        ("\nA,B\n1,2\n", 1, "names no column"),
        (" , ()\n1,2\n", 1, "names no column"),
        ("A,B\n", 1, "is the last, and no row has a number in it"),
        ("A,B\nx,y\n,\n", 3, "no row has a number"),
        (",A\n0,x\n1,y\n", 3, "no row has a number"),
        ("1.0,2.0\n3.0,4.0\n", 1, "holds numbers only; add a first line that names"),
        ("A,B,A\n1,2,3\n", 1, "names 2 columns 'A'; rename all but one"),
        ("A (),A\n1,2\n", 1, "names 2 columns 'A'"),
        ("A (m),A (m)\n1,2\n", 1, "'A .m.'"),
        ("A\x01,B\n1,2\n", 1, "up to 100 printable characters"),
        ("A" * 101 + ",B\n1,2\n", 1, "up to 100 printable characters"),
        ('A,B\n1,2\n3,"4\n', 3, "is no CSV .*; export the table again"),
        ("A,B\n1," + "9" * 200_000 + "\n", 2, "is no CSV"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), 5, r"is this CSV\?"),
        (",".join(f"c{i}" for i in range(10_001)) + "\n1\n", 1, "more than 10000 columns"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, sentence: str
) -> None:
    with pytest.raises(BadRecording, match=sentence) as caught:
        read(tmp_path, content)
    assert caught.value.code == "bad_recording"
    assert caught.value.details["line"] == line
    assert f"line {line} " in caught.value.message


def test_the_size_is_looked_at_before_the_content(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole, not a terabyte
    with pytest.raises(BadRecording, match="more than the 67108864 allowed; split it"):
        Recording.open(path)
    path.write_text("A\n1\n")
    with pytest.raises(BadRecording, match="has 4 bytes, more than the 3 allowed"):
        Recording.open(path, max_bytes=3)
    assert len(Recording.open(path, max_bytes=4)) == 1


def test_short_rows_do_not_take_memory_that_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text(",".join(f"c{i}" for i in range(1000)) + "\n" + "1\n" * 1000)
    with pytest.raises(BadRecording, match="lack most fields"):
        Recording.open(path, max_bytes=10_000)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="No such file"):
        Recording.open(tmp_path / "none.csv")
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(BadRecording, match="give the path of a CSV file"):
            Recording.open(path)
