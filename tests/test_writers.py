import io
import json

import pytest
from rich.console import Console

from gan_jax.writers import MetricsFile, ProgressLine

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


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_the_game_the_pace_and_the_data(terminal):
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=80, soft_wrap=True
    )
    progress = ProgressLine(1000, 0, console)
    progress.write(RECORD)
    progress.close()
    shown = console.file.getvalue()
    # 700 steps of 128 images at 128 images/s.
    wanted = ["300/1000", "11:40 left", "128 images/s", "D(x) 0.500", "D(G(z)) 0.500"]
    wanted += ["d_loss 1.386", "g_loss 0.693", "V -1.386", "packaged:mnist[train]"]
    for text in wanted:
        assert text in shown


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
    MetricsFile(path, until=2).close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
