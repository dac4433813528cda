import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tensorboardX.proto import event_pb2
from tensorboardX.proto.event_pb2 import SessionLog

from gan_jax.errors import UserError
from gan_jax.run.writers import (
    MetricsFile,
    ProgressLine,
    Writers,
    drop_records,
    mean_and_error,
    save_examples,
    tile,
)

RECORD = {
    "step": 300,
    "images": 38_400,
    "images_per_sec": 128.0,
    "d_real": 0.5,
    "d_fake": 0.5,
    "d_loss": 1.386,
    "g_loss": 0.693,
    "value": -1.386,
    "data": "packaged:mnist[train]",
}


# Four replicas at the same pace each, one of them frozen.
REPLICAS = RECORD | {
    "images_per_sec": 512.0,
    "d_real": [0.4, 0.5, 0.6, np.nan],
    "d_fake": [0.5, 0.5, 0.5, np.nan],
    "d_loss": [1.0, 1.0, 4.0, np.nan],
    "g_loss": [0.7, 0.7, 0.7, np.nan],
    "value": [-1.0, -1.0, -4.0, np.nan],
}
ONE = [
    "128 images/s",
    "D(x) 0.500  D(G(z)) 0.500  d_loss 1.386  g_loss 0.693  V -1.386",
]
FOUR = [
    "512 images/s",
    "D(x) 0.500 ± 0.058  D(G(z)) 0.500 ± 0.000  d_loss 2.000 ± 1.000",
]
FOUR += ["g_loss 0.700 ± 0.000  V -2.000 ± 1.000"]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("record", "wanted"), [(RECORD, ONE), (REPLICAS, FOUR)], ids=["one", "four"]
)
def test_progress_shows_the_game_the_pace_and_the_data(terminal, record, wanted):
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=80, soft_wrap=True
    )
    progress = ProgressLine(1000, 0, console)
    progress.write(record)
    progress.close()
    shown = console.file.getvalue()
    # 700 steps of 128 images at 128 images/s.
    for text in ["300/1000", "11:40 left", "packaged:mnist[train]", *wanted]:
        assert text in shown


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


def events(folder):
    """Reads TensorBoard's files: records of length, its checksum, data, their own."""
    for path in sorted(folder.glob("events.out.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16


def test_tensorboard_has_the_mean_and_its_standard_error(tmp_path):
    writers = Writers(tmp_path, 1000, 0)
    writers.metrics(REPLICAS)
    writers.metrics(RECORD | {"step": 301, "g_loss": 3.0})
    sheet = np.zeros((4, 5, 5, 1), np.uint8)
    writers.samples(301, sheet, 2)
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
    image = written[301, "samples"].image
    assert (image.height, image.width) == (10, 10)
    (start,) = (event for event in found if event.HasField("session_log"))
    assert (start.step, start.session_log.status) == (1, SessionLog.START)


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


def test_what_a_full_disk_refuses_is_written_later(tmp_path, monkeypatch, capsys):
    writers = Writers(tmp_path, 1000, 0)
    writers.close()
    Full(monkeypatch, 2)
    writers = Writers(tmp_path, 1000, 0)
    for step in (300, 301, 302):
        writers.metrics(RECORD | {"step": step})
    writers.samples(302, np.zeros((4, 5, 5, 1), np.uint8), 2)
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


def test_what_a_power_cut_left_empty_is_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bytes(40))
    MetricsFile(path).close()
    assert path.read_text() == '{"step": 1}\n'


def test_replicas_are_rows_of_images_and_panels_of_points(tmp_path):
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (3, 4, 5, 5, 1), np.uint8)
    save_examples(tmp_path / "x.png", rows, 4)
    with Image.open(tmp_path / "x.png") as sheet:
        np.testing.assert_array_equal(sheet, tile(rows.reshape(12, 5, 5, 1), 4)[..., 0])

    sizes = []
    for num in (1, 3):
        save_examples(tmp_path / "x.png", random.normal(size=(num, 50, 2)), 1)
        with Image.open(tmp_path / "x.png") as sheet:
            sizes.append(sheet.size)
    assert sizes[1] == (2 * sizes[0][0], 2 * sizes[0][1])


def test_no_step_is_written_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for steps in ((1, 2), (2, 3)):
        file = MetricsFile(path)
        for step in steps:
            file.write({"step": step, "by": steps[0]})
        file.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 1, "by": 1}, {"step": 2, "by": 1}, {"step": 3, "by": 2}]


def test_what_a_kill_left_is_cut_off_and_another_configs_records_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    MetricsFile(path).close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    drop_records(tmp_path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_tensorboard_is_opened_at_the_first_record(tmp_path):
    """To import it takes long; the first step does not wait for it."""
    writers = Writers(tmp_path, num_steps=1000, step=0)
    assert not list(tmp_path.glob("events.out.*"))
    writers.metrics(RECORD)
    writers.close()
    assert list(tmp_path.glob("events.out.*"))
