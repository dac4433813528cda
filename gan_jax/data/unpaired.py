"""Images of two domains without pairs: an example is one of each, drawn independently.

They are in folders trainA, trainB, testA and testB, as CycleGAN's authors publish them,
in a set `cycle_gan/...` of TFDS, or in whatever form `pairs` reads.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Pair
from gan_jax.build import names
from gan_jax.data import collection, folder, pairs, tfds
from gan_jax.data.jitter import Jitter
from gan_jax.data.source import Info, fingerprint
from gan_jax.errors import UserError, printable, unknown

_FILES, _TFDS = "AandB", "cycle_gan/"  # values of data.name


@dataclasses.dataclass(frozen=True)
class Domain:
    """The images of one domain.

    Attributes:
      source: random access to them.
      key: of an entry of the source, 'example' or 'condition'.
      names: of the images, in their order.
    """

    source: Sequence
    key: str = "example"
    names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return getattr(self.source.info, self.key).shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.source[index][self.key]


class Unpaired(Sequence):
    """Pairs of an image of each domain; each pair is its own condition.

    To train on, they are all pairs: to choose one of them at random is to draw both
    images independently. To measure on, each image comes once with the one at the same
    place in the other domain, of which the shorter one repeats.

    Args:
      name: of the set.
      domains: both of them.
      in_order: whether it is one to measure on.
      augment: changes batches in training.
    """

    def __init__(
        self,
        name: str,
        domains: tuple[Domain, Domain],
        in_order: bool,
        augment: Callable,
    ):
        self._domains, self._in_order, self.augment = domains, in_order, augment
        self._sizes = [len(domain) for domain in domains]
        space, infos = Pair((2, *domains[0].shape)), [x.source.info for x in domains]
        self.info = Info(
            name=name,
            example=space,
            condition=space,
            num_examples=len(self),
            fingerprint=fingerprint(*(info.fingerprint.encode() for info in infos)),
            note="; ".join(dict.fromkeys(info.note for info in infos if info.note)),
        )

    @property
    def partners(self) -> bool:
        """Whether the images of a pair belong together, as their names say."""
        a, b = (domain.names for domain in self._domains)
        known = self._sizes == [len(a), len(b)]  # no file was left out
        return self._in_order and known and a == b

    def __len__(self) -> int:
        a, b = self._sizes
        return max(a, b) if self._in_order else a * b

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        places = zip(self._domains, self._places(index), strict=True)
        pair = np.stack([domain[place] for domain, place in places])
        return {"example": pair, "condition": pair}

    def _places(self, index: int) -> tuple[int, int]:
        """Returns which image of each domain a pair has."""
        a, b = self._sizes
        if self._in_order:
            return index % a, index % b
        first, second = divmod(index, b)
        # Shifted, so that the few pairs of a sample grid have many images of both.
        return first, (second + first) % b


@dataclasses.dataclass(frozen=True)
class Apart:
    """Changes both images of each pair at random, each in its own way.

    Attributes:
      change: of a batch of images.
    """

    change: Jitter

    def __call__(self, key: Array, batch: dict[str, Array]) -> dict[str, Array]:
        """Changes `[batch, 2, height, width, channels]`, by their names."""
        images = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}
        changed = self.change(key, images)
        return jax.tree.map(lambda x, like: x.reshape(like.shape), changed, batch)


def load(config: ConfigDict) -> Unpaired:
    """Opens both domains; without `config.data.data_dir`, edges of digits and digits.

    `config.data.name` is 'AandB' for files, or a set of TFDS such as
    'cycle_gan/horse2zebra', with the settings of the random changes in training,
    `Jitter`: 'AandB(enlarge=1.1, mirror=False)'. The split 'train' has all pairs of
    both domains; any other split is one to measure on, see `Unpaired`.

    Raises:
      UserError: there are no such domains, or one of them cannot be read.
    """
    name, given = names.one_call("data.name", config.data.name, "NAME(setting=...)")
    if name != _FILES and not name.startswith(_TFDS):
        raise unknown("data.name of unpaired", name, (_FILES, f"{_TFDS}horse2zebra"))
    names.accepted(Jitter, given, name)
    change, split = Apart(Jitter(**given)), config.data.split
    title, domains = _domains(name, config)
    if domains[0].shape != domains[1].shape:  # one of them is grey
        title, domains = _domains(name, _changed(config, channels="rgb"))
    title = f"unpaired:{title}[{split}]"
    return Unpaired(title, domains, split != "train", change)


def _domains(name: str, config: ConfigDict) -> tuple[str, tuple[Domain, ...]]:
    """Returns what the set is called, and both domains."""
    data_dir, split = config.data.data_dir, config.data.split
    title = "edges of digits"
    if name != _FILES:
        sides = (_changed(config, name=name, split=f"{split}{side}") for side in "AB")
        return name, tuple(Domain(tfds.load(side)) for side in sides)
    if data_dir:
        root = folder.directory("unpaired", data_dir)
        title, sides = printable(root.name), [root / f"{split}{side}" for side in "AB"]
        there = [side for side in sides if side.is_dir()]
        if len(there) == 2:
            return title, tuple(_of_folder(side, config) for side in sides)
        if there or any((root / f"{other}A").is_dir() for other in ("train", "test")):
            missing = next(side for side in sides if side not in there)
            raise UserError(f"{root} has no folder {missing.name}")
    source = pairs.load(_changed(config, name="AtoB"))
    partners = tuple(map(str, range(len(source))))
    return title, tuple(Domain(source, k, partners) for k in ("condition", "example"))


def _of_folder(root: Path, config: ConfigDict) -> Domain:
    paths = folder.images_below(root)
    if not paths:
        raise UserError(f"{root} has no images ({', '.join(folder.SUFFIXES)})")
    titles = [path.relative_to(root).with_suffix("").as_posix() for path in paths]
    files = collection.Collection(
        name=printable(root.name),
        place=str(root),
        records=[(str(path), 0) for path in paths],
        title=lambda index: str(paths[index].relative_to(root)),
        classes=None,
    )
    return Domain(collection.load(files, config), names=tuple(titles))


def _changed(config: ConfigDict, **of_data) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.data.update(of_data)
    return config
