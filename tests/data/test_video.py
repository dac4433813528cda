"""Folders of films."""

import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from gan_jax.algorithm.spaces import Classes, Video
from gan_jax.config import default
from gan_jax.data import contract, video
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError

RNG = np.random.default_rng(0)
KINDS = {".gif": {}, ".webp": {"lossless": True}, ".png": {}}


def load(directory, name="clips(frames=3)", **keys):
    config = default()
    config.update_from_flattened_dict({"image_size": 8, **keys})
    config.data.data_dir, config.data.name = str(directory), name
    source = video.load(config)
    contract.check(source, "video")
    return source


def write(path, frames=3, channels=3, size=(8, 8)):
    """Writes a film of even frames, and returns their levels, `[frames, channels]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Levels that differ much: a GIF stores a frame that changes nothing not at all.
    levels = (40 * np.arange(frames)[:, None] + [0, 5, 10][:channels]) % 256
    pixels = np.broadcast_to(levels[:, None, None], (frames, *size, channels))
    mode = pixels.astype(np.uint8)[..., 0] if channels == 1 else pixels.astype(np.uint8)
    first, *rest = map(Image.fromarray, mode)
    how = {"save_all": True, "append_images": rest, "duration": 100}
    first.save(path, **how, **KINDS[path.suffix])
    return levels


def write_mp4(path, frames=6, size=(16, 16)):
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for t in range(frames):
            pixels = np.full((*size, 3), 30 * t + 20, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        film.mux(stream.encode())


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_is_read_frame_by_frame(tmp_path, suffix, channels):
    levels = write(tmp_path / f"a{suffix}", 3, channels)
    source = load(tmp_path)
    if suffix == ".png":  # the others are of colours always
        assert source.info.example == Video((3, 8, 8, channels))
    wanted = np.broadcast_to(levels[None, :, None, None], source.examples.shape)
    np.testing.assert_array_equal(source.examples, wanted)


def test_a_long_film_gives_several_clips(tmp_path):
    write(tmp_path / "a.gif", 6, 1)
    (levels,) = {tuple(x) for x in [write(tmp_path / "b.gif", 5, 1)[:, 0]]}
    whole = load(tmp_path, "clips(frames=2)").examples[..., 0, 0, 0]
    assert whole.tolist() == [[0, 40], [80, 120], [160, 200], [0, 40], [80, 120]]
    apart = load(tmp_path, "clips(frames=2, stride=2)").examples[..., 0, 0, 0]
    assert apart.tolist() == [[0, 80], [0, 80]]
    assert levels == (0, 40, 80, 120, 160)


def test_random_access_equals_memory(tmp_path):
    for name, frames in (("a/1.gif", 7), ("b/2.png", 6), ("b/3.gif", 2)):
        write(tmp_path / name, frames, size=(9, 12))
    name = "clips(frames=2, stride=1)"
    whole, lazy = (load(tmp_path, name, **{"data.resident_mb": n}) for n in (9, 0))
    assert isinstance(whole, InMemory)
    assert isinstance(lazy, video.Clips)
    assert lazy.info == whole.info
    assert lazy.info.condition == Classes(2, ("a", "b"))
    assert len(lazy) == len(whole) == 7
    for a, b in zip(pickle.loads(pickle.dumps(lazy)), whole, strict=True):
        np.testing.assert_array_equal(a["example"], b["example"])
        assert a["condition"] == b["condition"]


def test_grey_films_among_others_become_colour(tmp_path):
    write(tmp_path / "a.gif", 3, 1)
    write(tmp_path / "b.gif", 3, 3)
    assert load(tmp_path).examples.shape == (2, 3, 8, 8, 3)
    grey = load(tmp_path, **{"data.channels": "grey"})
    assert grey.examples.shape == (2, 3, 8, 8, 1)


def test_short_and_damaged_films_are_left_out(tmp_path):
    for i in range(5):
        write(tmp_path / f"{i}.gif")
    write(tmp_path / "short.gif", 2)
    (tmp_path / "broken.gif").write_bytes(b"GIF89a no")
    source = load(tmp_path)
    assert len(source) == 5
    first, second = source.info.note.split("; ")
    assert first.startswith("left out 1 of 7 films that cannot be read (broken.gif: ")
    wanted = "left out 1 of 6 films, shorter than a clip of 3 frames, stride 1"
    assert second == f"{wanted} (short.gif)"


def test_fingerprint_follows_frames_and_settings(tmp_path):
    write(tmp_path / "a.gif", 6)
    found = [load(tmp_path, f"clips({how})") for how in ("frames=3", "frames=2")]
    write(tmp_path / "b.gif", 6, size=(8, 16))
    found.append(load(tmp_path, "clips(frames=3)"))
    assert len({source.info.fingerprint for source in found}) == 3


def test_mp4(tmp_path):
    write_mp4(tmp_path / "a.mp4")
    source = load(tmp_path)
    assert source.examples.shape == (2, 3, 8, 8, 3)
    means = source.examples.mean((2, 3, 4)).ravel()
    np.testing.assert_allclose(means, 30 * np.arange(6) + 20, atol=6)


def test_mp4_without_its_reader(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"^a.mp4 needs PyAV: pip install 'gan_jax\[vi"):
        load(tmp_path)


def test_a_playlist_is_no_film(tmp_path):
    """FFmpeg would open what it lists, were it to choose the format by the content."""
    pytest.importorskip("av")
    write_mp4(tmp_path / "elsewhere" / "a.mp4")
    target = tmp_path / "elsewhere" / "a.mp4"
    text = f"#EXTM3U\n#EXTINF:1,\nfile://{target}\n#EXT-X-ENDLIST\n"
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "list.mp4").write_text(text)
    with pytest.raises(UserError, match=r"1 of the 1 films in .* cannot be read"):
        load(tmp_path / "films")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clips(frames=0)", "clips: frames is 0: it is a number from 1"),
        ("clips(stride=1.5)", "clips: stride is 1.5: it is a number from 1"),
        ("clips(frame=3)", "unknown option of clips 'clips' 'frame'; did you mean 'fr"),
        ("clips(frames=9)", "all films are shorter than a clip of 9 frames, stride 1"),
    ],
)
def test_refuses(tmp_path, name, message):
    write(tmp_path / "a.gif")
    with pytest.raises(UserError, match=message):
        load(tmp_path, name)


def test_refuses_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"holds no films \(\.gif, \.webp"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"the source video needs --config.data.data_d"):
        load("")
