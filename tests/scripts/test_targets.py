"""The tables of what configs need on GPUs and TPUs."""

import json
from pathlib import Path

import pytest
from target_tables import ROWS, tables

ROOT = Path(__file__).parents[2]


def result(batch, peak, **more):
    train = {"peak_mib": peak, "gflop": 12.3, "gbyte": 0.4567, "roofline_ms": 0.25}
    train |= {"collectives": {"all-reduce": 3.0}, "collectives_mb": {"all-reduce": 1.5}}
    train |= {"limit": "memory"}
    about = {"row": "mnist", "target": "h100x8", "slices": 1, "precision": "float32"}
    about |= {"batch_size": batch, "images_per_s": 4096000}
    return about | {"programs": {"train": train}} | more


def test_every_config_has_a_row():
    rows = {row.config.partition(":")[0] for row in ROWS.values()}
    # A grid of Gaussians costs what a ring does.
    assert {file.stem for file in (ROOT / "configs").glob("*.py")} == rows | {"grid"}


@pytest.fixture
def written(tmp_path):
    def of(*results):
        for i, about in enumerate(results):
            (tmp_path / f"{i}.json").write_text(json.dumps(about))
        return tables(tmp_path)

    return of


@pytest.mark.parametrize(("memory", "batch"), [(1781.0, "6,900"), (1281.0, "6,900")])
def test_the_batch_that_fits_is_on_the_line_through_two(written, memory, batch):
    # An H100 lets a program have 60,781 MiB: 1,024 + (60,781 - 1,781) / 10 = 6,924.
    # With 500 MiB less it is 6,974, which is rounded down.
    (table,) = written(result(1024, memory), result(2048, memory + 10240.0))
    row = f"| `mnist` | 1,024 | {memory:,.0f} | 12.3, 0.457 | 3, 1.5 | 0.25 | memory "
    assert f"{row}| 4,096,000 | {batch} |" in table
    assert table.startswith("**h100x8**")


def test_what_does_not_compile_says_why(written):
    about = result(1024, 1.0, error="90 GiB of 59.4 GiB")
    (table,) = written(about, result(4, 1.0, target="v5e:2x4", slices=2))[:1]
    assert "| `mnist` | 1,024 | does not fit: 90 GiB of 59.4 GiB |" in table


def test_slices_have_a_table_of_their_own(written):
    one = result(64, 100.0, target="v5e:2x4")
    found = written(one, one | {"slices": 2})
    assert [table.splitlines()[0] for table in found] == [
        "**v5e:2x4**",
        "**2 slices of v5e:2x4**",
    ]
    assert all("| ? |" in table for table in found)  # twice the batch is missing


def test_twice_the_batch_may_not_fit(written):
    (table,) = written(result(64, 100.0), result(128, 1.0, error="90 GiB of 59.4 GiB"))
    assert "| less than twice |" in table


@pytest.mark.parametrize("more", [0.0, 0.5])
def test_no_batch_is_guessed_where_memory_hardly_grows(written, more):
    (table,) = written(result(64, 100.0), result(128, 100.0 + more))
    assert "| ? |" in table
