import io
import json
import os
import re
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto import event_pb2
from tensorboardX.proto.event_pb2 import SessionLog

from gan_jax.algorithm.spaces import Images, Video
from gan_jax.errors import UserError
from gan_jax.run.progress import ProgressLine
from gan_jax.run.writers import (
    Board,
    EvaluationsFile,
    MetricsFile,
    SampleFiles,
    Writers,
    drop_records,
    mean_and_error,
)

RECORD = {
    "step": 300,
    "images": 38_400,
    "images_per_sec": 128.0,
    "seconds_left": 699.2,
    "wall_time": 1.8e9,
    "d_real": 0.5,
    "d_fake": 0.5,
    "d_loss": 1.386,
    "g_loss": 0.693,
    "value": -1.386,
    "data": "packaged:mnist[train]",
}


# Four replicas, one of them frozen.
REPLICAS = RECORD | {
    "images_per_sec": 123_512.0,
    "seconds_left": 3722.0,
    "d_real": [0.4, 0.5, 0.6, np.nan],
    "d_fake": [0.5, 0.5, 0.5, np.nan],
    "d_loss": [1.0, 1.0, 4.0, np.nan],
    "g_loss": [0.7, 0.7, 0.7, np.nan],
    "value": [-1.0, -1.0, -4.0, np.nan],
}
ONE = [
    "300/1000  11:40 left  128 images/s",
    "D(x) 0.500  D(G(z)) 0.500  d_loss 1.386  g_loss 0.693  V -1.386",
]
FOUR = [
    "300/1000  1:02:02 left  123,512 images/s",
    "D(x) 0.500 ± 0.058  D(G(z)) 0.500 ± 0.000  d_loss 2.000 ± 1.000",
    "g_loss 0.700 ± 0.000  V -2.000 ± 1.000",
]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("record", "wanted"), [(RECORD, ONE), (REPLICAS, FOUR)], ids=["one", "four"]
)
def test_progress_shows_the_pace_and_the_game_in_80_columns(terminal, record, wanted):
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=80, soft_wrap=True
    )
    progress = ProgressLine(1000, 0, console)
    progress.write(record)
    progress.close()
    codes = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
    shown = codes.sub("", console.file.getvalue()).splitlines()[-len(wanted) :]
    assert [line.lstrip(" ━╸╺").rstrip() for line in shown] == wanted
    assert all(len(line.rstrip()) <= 80 for line in shown)


@pytest.mark.parametrize(
    ("values", "mean", "error"),
    [
        (3.0, 3.0, None),
        ([3.0, np.nan], 3.0, None),
        ([1.0, 3.0], 2.0, 1.0),  # s = sqrt(2), n = 2
        ([1.0, np.inf, 1.0, 4.0], 2.0, 1.0),  # s = sqrt(3), n = 3
    ],
)
def test_mean_and_standard_error(values, mean, error):
    assert mean_and_error(values) == pytest.approx((mean, error))


def test_a_number_that_is_not_finite_is_null(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write({"step": 1, "value": [0.5, np.nan, np.inf], "data": "x"})
    file.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "value": [0.5, null, null], "data": "x"}\n'


def opened(folder):
    outputs = [
        MetricsFile(folder / "metrics.jsonl"),
        SampleFiles(folder),
        Board(folder, 0),
        ProgressLine(1000, 0),
    ]
    return Writers(outputs, Images((5, 5, 1)), columns=2)


def events(folder):
    """Reads TensorBoard's files: records of length, its checksum, data, checksum."""
    for path in sorted(folder.glob("events.out.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16


def test_tensorboard_has_the_mean_and_its_standard_error(tmp_path):
    writers = opened(tmp_path)
    writers.metrics(REPLICAS)
    writers.metrics(RECORD | {"step": 301, "g_loss": 3.0})
    writers.samples(301, np.zeros((1, 4, 5, 5, 1), np.uint8))
    writers.close()
    found = list(events(tmp_path))
    written = {
        (event.step, value.tag): value
        for event in found
        for value in event.summary.value
    }
    scalars = {key: value.simple_value for key, value in written.items()}
    assert scalars[300, "d_loss"] == 2.0
    assert scalars[300, "d_loss_stderr"] == 1.0
    assert scalars[301, "g_loss"] == 3.0
    assert (301, "images_stderr") not in written
    assert (301, "wall_time") not in written
    image = written[301, "samples"].image
    assert (image.height, image.width) == (10, 10)
    grid = (tmp_path / "samples" / "000301.png").read_bytes()
    assert image.encoded_image_string == grid
    (start,) = (event for event in found if event.HasField("session_log"))
    assert (start.step, start.session_log.status) == (1, SessionLog.START)


def test_a_film_is_written_beside_the_grid_and_shown_by_tensorboard(tmp_path):
    outputs = [SampleFiles(tmp_path), Board(tmp_path, 0)]
    writers = Writers(outputs, Video((3, 4, 4, 1)), columns=2)
    writers.samples(7, np.zeros((1, 4, 3, 4, 4, 1), np.uint8))
    writers.close()
    shown = {
        value.tag: value.image
        for event in events(tmp_path)
        for value in event.summary.value
    }
    for tag, suffix, size in (("samples", "png", (8, 24)), ("clips", "gif", (8, 8))):
        file = tmp_path / "samples" / f"000007.{suffix}"
        assert shown[tag].encoded_image_string == file.read_bytes()
        assert (shown[tag].height, shown[tag].width) == size


class Full:
    """A disk that is full for the next so many writes of a kind."""

    def __init__(self, monkeypatch, times):
        self.left, write = times, io.FileIO.write
        test = self

        class File(io.FileIO):
            def write(self, data):
                if test.left > 0:
                    test.left -= 1
                    return write(self, data[: len(data) // 2])
                return write(self, data)

        monkeypatch.setattr(Path, "open", lambda path, mode, **_: File(path, mode))


def test_writes_that_a_full_disk_refuses_are_made_later(tmp_path, monkeypatch, capsys):
    opened(tmp_path).close()
    jax.device_count()  # starts the backend, which opens files of its own
    Full(monkeypatch, 2)
    writers = opened(tmp_path)
    for step in (300, 301, 302):
        writers.metrics(RECORD | {"step": step})
    writers.samples(302, np.zeros((1, 4, 5, 5, 1), np.uint8))
    writers.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [300, 301, 302]
    assert (tmp_path / "samples" / "000302.png").is_file()
    scalars = [event.step for event in events(tmp_path) if event.summary.value]
    assert sorted(set(scalars)) == [300, 301, 302]
    err = capsys.readouterr().err
    for step in (300, 301):
        assert f"cannot write the metrics of step {step} ([Errno 28] No space" in err
    assert "step 302 (" not in err


@pytest.mark.parametrize("line", ["{}", "[1]", '{"step": "x"}', "{broken"])
def test_a_damaged_record_is_refused(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    text = '{"step": 1}\n' + line + '\n{"step": 3}\n'
    path.write_text(text)
    with pytest.raises(
        UserError, match=r"metrics.jsonl is damaged: line 2 is no record"
    ):
        MetricsFile(path)
    assert path.read_text() == text


def test_zeros_that_a_power_cut_left_are_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bytes(40))
    MetricsFile(path).close()
    assert path.read_text() == '{"step": 1}\n'


def test_one_replica_is_a_number_and_several_are_a_list(tmp_path):
    """A run has always an axis of replicas; the file of one run does not."""
    for values, wanted in (([0.5], 0.5), ([0.5, 0.25], [0.5, 0.25])):
        path = tmp_path / f"{len(values)}.jsonl"
        writers = Writers([MetricsFile(path)], Images((5, 5, 1)), columns=2)
        writers.metrics({"step": 1, "value": values, "data": "x"})
        writers.close()
        assert json.loads(path.read_text())["value"] == wanted


def test_other_hosts_write_and_draw_nothing(tmp_path):
    writers = Writers([], Images((5, 5, 1)), columns=2)
    writers.metrics(RECORD)
    writers.samples(1, "no examples")
    writers.close()


def test_an_output_that_fails_does_not_hold_back_the_others(tmp_path, capsys):
    """The progress line goes on while the disk is full."""

    class Full(MetricsFile):
        def write(self, record):
            raise OSError(28, "No space left on device")

    shown = io.StringIO()
    console = Console(file=shown, force_terminal=False, soft_wrap=True)
    outputs = [Full(tmp_path / "metrics.jsonl"), ProgressLine(1000, 0, console)]
    writers = Writers(outputs, Images((5, 5, 1)), columns=2)
    for step in (300, 301):
        writers.metrics(RECORD | {"step": step})
    assert shown.getvalue().count("images/s") == 2
    with pytest.raises(OSError, match="No space"):
        writers.save()
    writers.close()


def test_what_a_checkpoint_follows_is_on_the_disk(tmp_path, monkeypatch):
    on_disk = []
    monkeypatch.setattr(os, "fsync", lambda fd: on_disk.append(os.fstat(fd).st_size))
    files = [MetricsFile(tmp_path / "a"), EvaluationsFile(tmp_path / "b")]
    writers = Writers(files, Images((5, 5, 1)), columns=2)
    writers.metrics(RECORD)
    writers.sync()
    assert on_disk == [(tmp_path / "a").stat().st_size]  # b has nothing yet
    writers.evaluation({"step": 300, "fd": 1.0})
    writers.sync()
    assert on_disk[1:] == [(tmp_path / name).stat().st_size for name in "ab"]
    writers.close()


def test_no_step_is_written_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for steps in ((1, 2), (2, 3)):
        file = MetricsFile(path)
        for step in steps:
            file.write({"step": step, "by": steps[0]})
        file.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 1, "by": 1}, {"step": 2, "by": 1}, {"step": 3, "by": 2}]


def test_an_incomplete_line_is_cut_off_and_later_records_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    MetricsFile(path).close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    drop_records(tmp_path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_tensorboard_is_opened_at_the_first_record(tmp_path):
    """Its import takes long; the first step does not wait for it."""
    writers = opened(tmp_path)
    assert not list(tmp_path.glob("events.out.*"))
    writers.metrics(RECORD)
    writers.close()
    assert list(tmp_path.glob("events.out.*"))
