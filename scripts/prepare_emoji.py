"""Makes pairs of emoji, Google's and Twitter's, for the source `pairs`.

    npm install --prefix DIR emoji-datasource-google emoji-datasource-twitter
    python scripts/prepare_emoji.py --packages=DIR/node_modules --out=data/emoji

copies the images of 64x64 pixels that both have, Google's to A and Twitter's to B, into
the folders train and test. A tenth of the emoji is in test, with all its skin tones and
genders: they are nearly one image, and must not be in both.
"""

from pathlib import Path

from absl import flags

from gan_jax import cli
from gan_jax.data.pairs import held_out
from gan_jax.errors import UserError
from gan_jax.run.files import write_new_folder

_PACKAGES = flags.DEFINE_string(
    "packages", None, "The folder node_modules of the two packages.", required=True
)
_OUT = flags.DEFINE_string("out", None, "The new folder of the pairs.", required=True)

_SETS = {"A": "google", "B": "twitter"}
_COMMAND = "npm install emoji-datasource-google emoji-datasource-twitter"
# Skin tones, signs of gender, man, woman and person, and what joins them.
_VARIANTS = {f"1f3f{tone}" for tone in "bcdef"}
_VARIANTS |= {"2640", "2642", "1f468", "1f469", "1f9d1", "200d", "fe0f"}


def base(name: str) -> str:
    """Returns what all variants of an emoji have in common.

    Args:
      name: its code points in hexadecimal, joined by `-`.
    """
    return "-".join(part for part in name.split("-") if part not in _VARIANTS)


def images(side: str) -> dict[str, Path]:
    """Returns the images of a set by their names.

    Raises:
      UserError: the package is not there.
    """
    name = _SETS[side]
    folder = Path(_PACKAGES.value, f"emoji-datasource-{name}", "img", name, "64")
    found = {path.stem: path for path in sorted(folder.glob("*.png"))}
    if not found:
        raise UserError(f"{folder} has no images: get the packages by {_COMMAND}")
    return found


def main() -> None:
    """Copies the pairs."""
    out, sets = Path(_OUT.value), {side: images(side) for side in _SETS}
    if out.exists():
        raise UserError(f"--out={out}: it is there already; give a new folder")
    copies, counts = {}, {"train": 0, "test": 0}
    for name in sorted(sets["A"].keys() & sets["B"]):
        split = "test" if held_out(base(name)) else "train"
        counts[split] += 1
        for side, found in sets.items():
            copies[f"{split}/{side}/{name}.png"] = found[name].read_bytes()
    write_new_folder(out, copies)
    print(f"{out}: {counts['train']:,} pairs in train, {counts['test']:,} in test")


if __name__ == "__main__":
    cli.run(main)
