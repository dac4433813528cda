"""How examples reach the device: what a chunk draws, and in which order.

A feed is a pytree with two pure functions, both called inside the compiled chunk:
`window(step, n)` says what the `n` steps from `step` on draw, stacked along a leading
axis, and `batch(drawn)` makes one step's batch of it, `d_updates * batch_size`
examples. Of several replicas it is one pytree too, to be mapped over its `axes`: each
has its own key, and all share the images.

Sets of images go through in epochs: update number u (step * d_updates + i) belongs to
epoch u // (num_examples // batch_size); within an epoch no example comes twice, those
that do not fill a batch are left out, and the order is a function of (seed, epoch). So
the step alone tells where a run is in its data, and nothing else need be saved.
"""

import math
import os
from collections.abc import Iterator

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gan_jax.algorithm.keys import purpose_key
from gan_jax.data.source import Images
from gan_jax.devices import mesh as sharding
from gan_jax.devices.mesh import DATA, REPLICA

_READ_AHEAD = 2**28  # bytes


@flax.struct.dataclass
class Drawn:
    """Points from a density that is sampled on the device.

    Attributes:
      key: the run's root key.
      density: with `sample(key, n)`.
      size: examples in a step's batch.
    """

    key: Array
    density: object = flax.struct.field(pytree_node=False)
    size: int = flax.struct.field(pytree_node=False)

    axes = 0

    def window(self, step: Array, n: int) -> Array:
        """Returns the numbers of the steps."""
        return step + jnp.arange(n)

    def batch(self, drawn: Array) -> dict[str, Array]:
        """Samples the density for one step."""
        return self.density.sample(purpose_key(self.key, drawn, "data"), self.size)


@flax.struct.dataclass
class Resident:
    """A set that lives on the device whole.

    Attributes:
      key: the run's root key.
      images: `[num_examples, height, width, channels]`, uint8.
      labels: `[num_examples]`, int32.
      batch_size: examples in a batch.
      d_updates: batches in a step.
    """

    key: Array
    images: Array
    labels: Array
    batch_size: int = flax.struct.field(pytree_node=False)
    d_updates: int = flax.struct.field(pytree_node=False)

    @property
    def axes(self) -> "Resident":
        """The replicas' axis of each leaf."""
        return self.replace(key=0, images=None, labels=None)

    def window(self, step: Array, n: int) -> Array:
        """Returns the indices of the examples, `[n, d_updates * batch_size]`."""
        per_epoch = len(self.images) // self.batch_size
        updates = step * self.d_updates + jnp.arange(n * self.d_updates)
        epochs = updates // per_epoch
        # The epochs that so many updates can touch, wherever they start.
        touched = (n * self.d_updates - 2) // per_epoch + 2
        orders = jax.lax.map(self._order, epochs[0] + jnp.arange(touched))
        orders = orders[:, : per_epoch * self.batch_size]
        orders = orders.reshape(touched, per_epoch, self.batch_size)
        return orders[epochs - epochs[0], updates % per_epoch].reshape(n, -1)

    def batch(self, drawn: Array) -> dict[str, Array]:
        """Gathers the examples of one step."""
        return {"image": self.images[drawn], "label": self.labels[drawn]}

    def _order(self, epoch: Array) -> Array:
        key = purpose_key(self.key, epoch, "order")
        return jax.random.permutation(key, len(self.images))


@flax.struct.dataclass
class Window:
    """Batches that were read ahead on the hosts, for one chunk.

    Attributes:
      batches: leaves `[n, d_updates, batch_size, ...]`, of several replicas
        `[n, replicas, d_updates, batch_size, ...]`.
    """

    batches: dict[str, Array]

    axes = 1

    def window(self, step: Array, n: int) -> dict[str, Array]:
        """Returns the batches themselves."""
        return self.batches

    def batch(self, drawn: dict[str, Array]) -> dict[str, Array]:
        """Returns one step's batch."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn)


class Stream:
    """A set that is read from its source while it trains.

    Each host reads the replicas, and of every batch the examples, that its devices
    need.

    Args:
      source: random access to examples.
      config: the run's; its seed and batch size set the order.
      step: the step to start from.
      mesh: where the batches go.
    """

    def __init__(self, source, config: ConfigDict, step: int, mesh: Mesh):
        self._source, self._config = source, config
        lead = (REPLICA,) if config.replicas > 1 else ()
        self._sharding = NamedSharding(mesh, PartitionSpec(None, *lead, None, DATA))
        parts = NamedSharding(mesh, PartitionSpec(REPLICA, DATA))
        # Which replicas, and which examples of a batch, this host holds.
        self._held = _held(parts, (config.replicas, config.batch_size))
        self._open(step)

    def at(self, step: int, n: int) -> Window:
        """Reads the batches of the next `n` steps."""
        if step != self._step:
            self._open(step)
        self._step += n
        updates = range(n * self._config.d_updates)
        each = [[next(batches) for _ in updates] for batches in self._batches]
        return Window({key: self._window(key, each, n) for key in each[0][0]})

    def _open(self, step: int) -> None:
        self._step = step
        self._batches = [self._read(int(i), step) for i in self._held[0]]

    def _read(self, replica: int, step: int) -> Iterator[dict[str, np.ndarray]]:
        import grain  # only large sets need it

        config, rows = self._config, self._held[1]
        batches = (
            grain.MapDataset.range(len(self._source))
            .seed(config.seed + replica)
            .shuffle()
            .batch(config.batch_size, drop_remainder=True)
            # grain is slow to touch each example
            .map(lambda indices: _read(self._source, indices[rows]))
            .repeat()
        )
        # A chunk is read while the one before it trains, if so much may be held.
        size = config.replicas * config.batch_size * math.prod(self._source.info.shape)
        ahead = min(config.log_every * config.d_updates, _READ_AHEAD // size)
        options = grain.ReadOptions(
            num_threads=max(1, os.cpu_count() // config.replicas),
            prefetch_buffer_size=max(2, ahead),
        )
        return iter(batches[step * config.d_updates :].to_iter_dataset(options))

    def _window(self, key: str, each: list[list[dict]], n: int) -> Array:
        """Makes `[n(, replicas), d_updates, batch, ...]` of what this host has read."""
        local = np.stack([[update[key] for update in updates] for updates in each], 1)
        local = local.reshape(n, -1, *local.shape[1:]).swapaxes(1, 2)
        held = [None, self._held[0], None, self._held[1]]
        if self._config.replicas == 1:
            local, held = local[:, 0], [None, None, self._held[1]]
            full = (*local.shape[:2], self._config.batch_size)
        else:
            full = (n, self._config.replicas, local.shape[2], self._config.batch_size)
        shape = (*full, *local.shape[len(full) :])
        return jax.make_array_from_callback(
            shape, self._sharding, lambda index: local[_within(index, held, shape)]
        )


class Fixed:
    """A feed that is the same for every chunk.

    Args:
      feed: `Drawn` or `Resident`.
    """

    def __init__(self, feed: Drawn | Resident):
        self._feed = feed

    def at(self, step: int, n: int) -> Drawn | Resident:
        """Returns the feed."""
        return self._feed


def open_feed(source, config: ConfigDict, key: Array, step: int, mesh):
    """Opens the feed that fits a source.

    Args:
      source: a density, a set in memory, or one to stream.
      config: the run's.
      key: the run's root key, or one for each replica.
      step: the step to start from.
      mesh: where resident data are placed.

    Returns:
      An object whose `at(step, n)` is the feed of the next `n` steps.
    """
    if hasattr(source, "sample"):
        return Fixed(Drawn(key, source, config.batch_size * config.d_updates))
    if not isinstance(source, Images):
        return Stream(source, config, step, mesh)
    everywhere = sharding.replicated(mesh)
    images, labels = (
        sharding.put(x, everywhere) for x in (source.images, source.labels)
    )
    return Fixed(Resident(key, images, labels, config.batch_size, config.d_updates))


def _read(source, indices: np.ndarray) -> dict[str, np.ndarray]:
    examples = [source[index] for index in indices.tolist()]
    images = np.stack([example["image"] for example in examples])
    labels = np.array([example["label"] for example in examples], np.int32)
    return {"image": images, "label": labels}


def _held(parts: NamedSharding, shape: tuple[int, int]) -> list[np.ndarray]:
    """Returns for each axis the indices that some device of this host holds."""
    blocks = parts.addressable_devices_indices_map(shape).values()
    return [
        np.unique(np.concatenate([np.arange(n)[block[axis]] for block in blocks]))
        for axis, n in enumerate(shape)
    ]


def _within(index: tuple, held: list, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Turns an index into the whole into one into the part that is held."""
    moved = []
    for part, n, indices in zip(index, shape, held, strict=False):
        start, stop, _ = part.indices(n)
        first = start if indices is None else int(np.searchsorted(indices, start))
        moved.append(slice(first, first + stop - start))
    return tuple(moved)
