"""Translation of images: the command, and the measures of a run of pairs."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from runs import config_of, untrained

from gan_jax import draw, load
from gan_jax.algorithm.spaces import Images, Pair, Points, Space
from gan_jax.data import pairs
from gan_jax.errors import UserError
from gan_jax.run.training import train
from gan_jax.run.translation import Inputs

SIZE = 12


def write(path, height=SIZE, width=SIZE, channels=3, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if channels == 3 else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for i in range(60):
        write(root / f"{i:02d}.png", width=2 * SIZE, seed=i)
    return root


@pytest.fixture(scope="module")
def run(data_dir):
    """A run on pairs of images, from A to B."""
    path = data_dir.parent / "translation"
    keys = {"data.data_dir": str(data_dir), "image_size": SIZE}
    train(config_of("pix2pix", **keys), path)
    return path


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_each_image_gets_a_translation_of_its_name(run, forks, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    write(folder / "b.bmp", seed=1)
    write(folder / "deep" / "a.v1.png", seed=2)
    write(folder / "again.png", seed=1)
    (folder / "notes.txt").write_text("no image")
    flags = f"--workdir={run}", f"--input={folder}", f"--out={out}"
    status, said, err = forks("translate", *flags)
    assert status == 0, err
    assert said == f"{out}: 3 images translated, step 2, replica 0\n"
    found = {str(p.relative_to(out)): read(p) for p in out.rglob("*") if p.is_file()}
    assert found.keys() == {"again.png", "b.png", "deep/a.v1.png"}
    for image in found.values():
        assert (image.shape, image.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert (found["b.png"] != found["deep/a.v1.png"]).any()
    # The noise is each image's own, and of the seed.
    assert (found["b.png"] != found["again.png"]).any()

    for name, more in (("same", []), ("seed", ["--seed=1"])):
        other = tmp_path / name
        args = *flags[:2], f"--out={other}", *more
        assert forks("translate", *args)[0] == 0
        assert (read(other / "b.png") == found["b.png"]).all() == (name == "same")


@pytest.fixture(scope="module")
def both_ways(data_dir):
    """A run on two domains, without training."""
    path, space = data_dir.parent / "both", Pair((2, SIZE, SIZE, 3))
    untrained(path, config_of("cyclegan", width=2, image_size=SIZE), space, space)
    return path


def test_a_run_on_two_domains_translates_both_ways(both_ways, forks, tmp_path):
    gan, state = load(both_ways)
    pixels = np.stack([write(tmp_path / "in" / f"{i}.png", seed=i) for i in range(3)])
    flags = f"--workdir={both_ways}", f"--input={tmp_path / 'in'}"
    made = draw(gan, state, jax.random.key(0), 3, np.stack([pixels, pixels], 1))
    for side, direction in enumerate(("BtoA", "AtoB")):  # F(b) is an a, H(a) a b
        out = tmp_path / direction
        args = *flags, f"--out={out}", f"--direction={direction}"
        status, said, err = forks("translate", *args)
        assert status == 0, err
        assert said == f"{out}: 3 images translated, step 7, replica 0\n"
        found = np.stack([read(out / f"{i}.png") for i in range(3)])
        np.testing.assert_allclose(np.int32(found), np.int32(made[:, side]), atol=1)
    assert (made[:, 0] != made[:, 1]).any()


@pytest.mark.parametrize(
    ("of", "flags", "message"),
    [
        ("both_ways", [], "translates both ways: give --direction=AtoB or BtoA"),
        ("both_ways", ["--direction=AtoC"], "unknown direction 'AtoC'; did you mean"),
        ("run", ["--direction=AtoB"], "--direction=AtoB: {run} translates in one dir"),
    ],
)
def test_a_direction_is_of_a_run_that_has_two(
    of, flags, message, forks, tmp_path, request
):
    place = request.getfixturevalue(of)
    write(tmp_path / "in" / "a.png")
    given = (
        f"--workdir={place}",
        f"--input={tmp_path / 'in'}",
        f"--out={tmp_path / 'o'}",
    )
    status, out, err = forks("translate", *given, *flags)
    assert (status, out) == (2, "")
    assert message.format(run=place) in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_an_exported_generator_translates(run, forks, tmp_path):
    write(tmp_path / "in" / "a.png")
    given = f"--input={tmp_path / 'in'}"
    assert forks("export", f"--workdir={run}", f"--out={tmp_path / 'g'}")[0] == 0
    for name, workdir in (("of_run", run), ("of_export", tmp_path / "g")):
        out = f"--out={tmp_path / name}"
        status, said, err = forks("translate", f"--workdir={workdir}", given, out)
        assert status == 0, err
    assert said.endswith(": 1 image translated, step 2\n")
    assert (read(tmp_path / "of_run/a.png") == read(tmp_path / "of_export/a.png")).all()


def test_pairs_that_were_not_trained_on_are_measured(run, forks):
    flags = "--features=pixels", "--metrics=paired, fd", "--json"
    status, out, err = forks("evaluate", f"--workdir={run}", "--split=test", *flags)
    assert status == 0, err
    found = json.loads(out)
    held_out = [f"{i:02d}" for i in range(60) if pairs.held_out(f"{i:02d}")]
    assert found["l1"]["n_real"] == found["l1"]["n_fake"] == len(held_out)
    assert found["protocol"]["reference"].endswith("[test] AtoB")
    assert found["protocol"]["trained_on"].endswith("[train] AtoB")
    assert found["protocol"]["test"] is None
    assert 0 < found["ssim"]["stderr"] < found["ssim"]["value"] < 0.5
    # Both sides are noise: two uniform numbers are a third apart.
    assert found["l1_of_input"]["value"] == pytest.approx(1 / 3, abs=0.02)
    assert found["l1_of_input"]["floor"] is None


def test_a_metric_of_pairs_is_not_measured_while_training(data_dir, tmp_path):
    keys = {"data.data_dir": str(data_dir), "image_size": SIZE, "eval.every": 1}
    metrics = {"eval.metrics": "paired", "eval.features": "pixels"}
    config = config_of("pix2pix", **keys, **metrics)
    with pytest.raises(UserError, match=r"^eval.metrics: 'paired' is not measured whi"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give a run: --workdir=DIR"),
        (["--workdir={run}"], "give images: --input=DIR"),
        (["--workdir={run}", "--input={one}"], "give a new folder: --out=DIR"),
        (["--num=3"], "--num is of samples: every image"),
        (["--input={one}/no"], "--input={one}/no: there is no such folder"),
        (["--out={one}"], "--out={one}: it is not empty; give a new folder"),
        (["--replica=2"], "--replica=2: the run {run} has only replica 0"),
        (["--workdir={points}"], "{points} does not translate images: it makes Points"),
        (
            ["--input={small}"],
            "cannot be translated (a.png: 8x12 pixels); the run takes",
        ),
    ],
)
def test_refuses_in_one_line(forks, run, tmp_path, flags, message):
    places = {"run": run, "one": tmp_path / "one", "small": tmp_path / "small"}
    write(places["one"] / "a.png")
    write(places["small"] / "a.png", width=8)
    if "points" in message:
        places["points"] = tmp_path / "points"
        untrained(places["points"], config_of("ring"), Points((2,)))
    if flags and not flags[0].startswith("--workdir={run}"):
        given = {flag.partition("=")[0] for flag in flags}
        whole = "--workdir={run}", "--input={one}", "--out={one}/out"
        flags = [*flags, *(f for f in whole if f.partition("=")[0] not in given)]
    status, out, err = forks("translate", *(flag.format(**places) for flag in flags))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message.format(**places) in err


# --- The images of a folder -----------------------------------------------------------


SPACE = Images((SIZE, SIZE, 3))


def test_inputs_are_decoded_as_they_are(tmp_path):
    wanted = [write(tmp_path / f"{name}.png", seed=i) for i, name in enumerate("abc")]
    inputs = Inputs(tmp_path, SPACE)
    np.testing.assert_array_equal(inputs[np.array([2, 0])], [wanted[2], wanted[0]])


def test_other_images_are_converted_on_request(tmp_path):
    write(tmp_path / "a.png", 30, 20)
    write(tmp_path / "b.png")
    space = Images((SIZE, SIZE, 1))
    with pytest.raises(UserError) as error:
        Inputs(tmp_path, space)
    assert str(error.value) == (
        f"2 of the 2 images in {tmp_path} cannot be translated (a.png: 20x30 pixels; "
        "b.png: colour); the run takes grey images of 12x12 pixels, to which --resize "
        "converts them"
    )
    inputs = Inputs(tmp_path, space, resize=True)
    assert inputs[np.arange(2)].shape == (2, *space.shape)


def test_grey_images_may_be_among_those_in_colour(tmp_path):
    grey = write(tmp_path / "a.png", channels=1)
    inputs = Inputs(tmp_path, SPACE)
    np.testing.assert_array_equal(inputs[np.arange(1)][0], grey[..., None].repeat(3, 2))


def damaged(folder):
    for name in "abcd":
        write(folder / f"{name}.png")
    (folder / "c.png").write_bytes((folder / "c.png").read_bytes()[:99])


def alike(folder):
    write(folder / "a.png")
    write(folder / "a.bmp")


@pytest.mark.parametrize(
    ("make", "space", "message"),
    [
        (damaged, SPACE, r"^1 of the 4 images in .* translated \(c.png: OSError.*\)$"),
        (alike, SPACE, "a.bmp and a.png have one name|a.png and a.bmp have one name"),
        (lambda folder: None, SPACE, r"it has no images \(.png"),
        (damaged, Space((2,)), r"takes conditions of shape \(2,\): no images"),
        (damaged, Images((4, 4, 2)), r"takes conditions of shape \(4, 4, 2\): no imag"),
    ],
)
def test_folders_that_cannot_be_translated(tmp_path, make, space, message):
    make(tmp_path)
    with pytest.raises(UserError, match=message):
        Inputs(tmp_path, space).outputs()


def test_squares_are_made_for_squares_alone(tmp_path):
    write(tmp_path / "a.png", 8, 12)
    with pytest.raises(UserError, match=r"^--resize makes squares, and .* takes 12x8"):
        Inputs(tmp_path, Images((8, 12, 3)), resize=True)
