"""The feed to the device: what a chunk of steps draws, and in which order.

A feed is a pytree with two pure functions, both called inside the compiled chunk:
`window(step, n)` says what the `n` steps from `step` on draw, stacked along a leading
axis, and `batch(drawn)` makes one step's batch of it, `d_updates * batch_size`
examples. Its leaves have an axis of replicas where `axes` says so: each replica has its
own key, and all share the data.

Data sets are read in epochs: update u = step * d_updates + i belongs to epoch
u // (num_examples // batch_size). Within an epoch no example comes twice, those that do
not fill a batch are left out, and the order is a function of (seed, epoch). So the step
alone determines the position in the data, and nothing else has to be saved.
"""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gan_jax.algorithm.keys import purpose_key
from gan_jax.data import contract
from gan_jax.data.source import InMemory
from gan_jax.devices import mesh as sharding
from gan_jax.devices.mesh import DATA, REPLICA

_READ_AHEAD = 2**28  # bytes
_WINDOW = PartitionSpec(None, REPLICA, None, DATA)  # of what is read for a chunk


@flax.struct.dataclass
class Drawn:
    """Examples from a density that is sampled on the device.

    Attributes:
      key: the root key, `[replicas]`, or one key for a single run.
      density: with `sample(key, n)`.
      size: examples in a step's batch.
      conditional: whether batches have the conditions.
    """

    key: Array
    density: object = flax.struct.field(pytree_node=False)
    size: int = flax.struct.field(pytree_node=False)
    conditional: bool = flax.struct.field(pytree_node=False, default=False)

    axes = 0

    def window(self, step: Array, n: int) -> Array:
        """Returns the step counters."""
        return step + jnp.arange(n)

    def batch(self, drawn: Array) -> dict[str, Array]:
        """Samples the density for one step."""
        key = purpose_key(self.key, drawn, "data")
        batch = self.density.sample(key, self.size)
        kept = ("example", "condition") if self.conditional else ("example",)
        return {name: batch[name] for name in kept}


@flax.struct.dataclass
class Resident:
    """A data set that is on the device whole.

    Attributes:
      key: the root key, `[replicas]`, or one key for a single run.
      examples: `[num_examples, *shape]`, as stored.
      conditions: `[num_examples, ...]`; None if batches have no conditions.
      batch_size: examples in a batch.
      d_updates: batches in a step.
    """

    key: Array
    examples: Array
    conditions: Array | None
    batch_size: int = flax.struct.field(pytree_node=False)
    d_updates: int = flax.struct.field(pytree_node=False)

    @property
    def axes(self) -> "Resident":
        """The axis of replicas of each leaf."""
        return self.replace(key=0, examples=None, conditions=None)

    def window(self, step: Array, n: int) -> Array:
        """Returns the indices of the examples, `[n, d_updates * batch_size]`."""
        per_epoch = len(self.examples) // self.batch_size
        updates = step * self.d_updates + jnp.arange(n * self.d_updates)
        epochs = updates // per_epoch
        # The most epochs that so many updates can be in, wherever they start.
        touched = (n * self.d_updates - 2) // per_epoch + 2
        orders = jax.lax.map(self._order, epochs[0] + jnp.arange(touched))
        orders = orders[:, : per_epoch * self.batch_size]
        orders = orders.reshape(touched, per_epoch, self.batch_size)
        return orders[epochs - epochs[0], updates % per_epoch].reshape(n, -1)

    def batch(self, drawn: Array) -> dict[str, Array]:
        """Gathers the examples of one step."""
        batch = {"example": self.examples[drawn]}
        if self.conditions is not None:
            batch["condition"] = self.conditions[drawn]
        return batch

    def _order(self, epoch: Array) -> Array:
        key = purpose_key(self.key, epoch, "order")
        return jax.random.permutation(key, len(self.examples))


@flax.struct.dataclass
class Window:
    """Batches that the hosts have read ahead, for one chunk.

    Attributes:
      batches: leaves `[n, replicas, d_updates, batch_size, ...]`, without the axis of
        replicas for a single run.
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
    """A data set that is read from its source while it trains.

    Each host reads the replicas, and of every batch the examples, that its devices
    need.

    Args:
      source: random access to examples.
      config: of the run; its seed and batch size determine the order.
      step: the step to start from.
      mesh: where the batches are placed.
    """

    def __init__(self, source, config: ConfigDict, step: int, mesh: Mesh):
        self._source, self._config = source, config
        self._sharding = NamedSharding(mesh, _WINDOW)
        parts = NamedSharding(mesh, PartitionSpec(REPLICA, DATA))
        # Which replicas, and which examples of a batch, this host needs.
        self._held = _held(parts, (config.replicas, config.batch_size))
        self._open(step)

    def at(self, step: int, n: int) -> Window:
        """Reads the batches of the next `n` steps.

        Raises:
          UserError: an example cannot be read, or does not fit its space.
        """
        if step != self._step:
            self._open(step)
        self._step += n
        updates = range(n * self._config.d_updates)
        each = [[next(batches) for _ in updates] for batches in self._batches]
        batches = {"example": self._window("example", each, n)}
        if "condition" in each[0][0]:
            same = all(x["condition"] is x["example"] for read in each for x in read)
            batches["condition"] = (
                batches["example"] if same else self._window("condition", each, n)
            )
        return Window(batches)

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
            # per batch, since grain takes long per element
            .map(lambda indices: self._batch(indices[rows]))
            .repeat()
        )
        # A chunk is read while the one before it trains, if memory allows.
        size = config.replicas * config.batch_size * self._example_bytes()
        ahead = min(config.log_every * config.d_updates, _READ_AHEAD // size)
        options = grain.ReadOptions(
            num_threads=max(1, os.cpu_count() // config.replicas),
            prefetch_buffer_size=max(2, ahead),
        )
        return iter(batches[step * config.d_updates :].to_iter_dataset(options))

    def _example_bytes(self) -> int:
        info = self._source.info
        spaces = [info.example, info.condition if self._config.conditional else None]
        return sum(
            math.prod(space.shape) * space.stored_dtype.itemsize
            for space in spaces
            if space is not None
        )

    def _batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Reads the examples of a batch; conditions that are them are stacked once."""
        conditional = self._config.conditional
        read = [contract.read(self._source, i, conditional) for i in indices.tolist()]
        batch = {"example": np.stack([x["example"] for x in read])}
        if "condition" in read[0]:
            same = all(x["condition"] is x["example"] for x in read)
            batch["condition"] = (
                batch["example"] if same else np.stack([x["condition"] for x in read])
            )
        return batch

    def _window(self, key: str, each: list[list[dict]], n: int) -> Array:
        """Makes `[n, replicas, d_updates, batch, ...]` of what this host has read."""
        rows = self._held[1]
        local = np.stack([[update[key] for update in updates] for updates in each], 1)
        local = local.reshape(n, -1, *local.shape[1:]).swapaxes(1, 2)
        full = (n, self._config.replicas, local.shape[2], self._config.batch_size)
        shape, held = (*full, *local.shape[4:]), [None, self._held[0], None, rows]
        return jax.make_array_from_callback(
            shape, self._sharding, lambda index: local[_within(index, held, shape)]
        )


@flax.struct.dataclass
class Augmented:
    """A feed whose batches are changed at random as they are drawn.

    Attributes:
      key: the root key, `[replicas]`, or one key for a single run.
      feed: `Resident` or `Window`.
      augment: `(key, batch) -> batch`, of the source.
    """

    key: Array
    feed: Resident | Window
    augment: Callable = flax.struct.field(pytree_node=False)

    @property
    def axes(self) -> "Augmented":
        """The axis of replicas of each leaf."""
        return self.replace(key=0, feed=self.feed.axes)

    def window(self, step: Array, n: int) -> tuple[Array, Any]:
        """Returns the step counters, and what the feed draws in these steps."""
        return step + jnp.arange(n), self.feed.window(step, n)

    def batch(self, drawn: tuple[Array, Any]) -> dict[str, Array]:
        """Makes one step's batch, and changes it."""
        step, drawn = drawn
        return self.augment(purpose_key(self.key, step, "data"), self.feed.batch(drawn))


class Opened:
    """Gives the feed of each chunk.

    Args:
      of_chunk: `(step, n) -> feed`.
      keys: the root keys, `[replicas]`.
      augment: of the source; None without.
    """

    def __init__(self, of_chunk: Callable, keys: Array, augment: Callable | None):
        self._of_chunk, self._keys, self._augment = of_chunk, keys, augment

    def at(self, step: int, n: int) -> Any:
        """Returns the feed of the `n` steps from `step` on."""
        feed = self._of_chunk(step, n)
        return (
            feed
            if self._augment is None
            else Augmented(self._keys, feed, self._augment)
        )


def planned(source, config: ConfigDict, keys, n: int, mesh: Mesh) -> Any:
    """Returns the feed of `n` steps without its data, to compile for: its shapes.

    Args:
      source: as for `open_feed`.
      config: of the run.
      keys: the shape of the root keys, `[replicas]`.
      n: steps.
      mesh: where the data would be placed.
    """
    if hasattr(source, "sample") or isinstance(source, InMemory):
        return open_feed(source, config, keys, 0, mesh, _shape).at(0, n)
    info, sharded = source.info, NamedSharding(mesh, _WINDOW)
    spaces = {"example": info.example}
    spaces |= {"condition": info.condition} if config.conditional else {}
    sizes = n, config.replicas, config.d_updates, config.batch_size
    batches = {
        key: jax.ShapeDtypeStruct(
            (*sizes, *space.shape), space.stored_dtype, sharding=sharded
        )
        for key, space in spaces.items()
    }
    augment = getattr(source, "augment", None)
    return Opened(lambda step, n: Window(batches), keys, augment).at(0, n)


def open_feed(
    source,
    config: ConfigDict,
    keys: Array,
    step: int,
    mesh: Mesh,
    put: Callable = sharding.put,
) -> Opened:
    """Opens the feed that fits a source.

    Args:
      source: a density, a set in memory, or one to stream; see `contract.check`.
      config: of the run. Batches have conditions only if it is conditional.
      keys: the root keys, `[replicas]`.
      step: the step to start from.
      mesh: where the data are placed.
      put: places an array: `(x, sharding) -> array`.

    Returns:
      An object whose `at(step, n)` is the feed of the next `n` steps.
    """
    augment = getattr(source, "augment", None)
    if hasattr(source, "sample"):
        size = config.batch_size * config.d_updates
        feed = Drawn(keys, source, size, bool(config.conditional))
    elif isinstance(source, InMemory):
        examples, conditions = _placed(source, config.conditional, mesh, put)
        feed = Resident(keys, examples, conditions, config.batch_size, config.d_updates)
    else:
        stream = Stream(source, config, step, mesh)
        return Opened(stream.at, keys, augment)
    return Opened(lambda step, n: feed, keys, augment)


def _placed(
    source: InMemory, conditional: bool, mesh: Mesh, put: Callable
) -> tuple[Array, Array | None]:
    """Places a whole copy of the arrays on each device."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    examples = put(source.examples, everywhere)
    if not conditional or source.conditions is None:
        return examples, None
    if source.conditions is source.examples:
        return examples, examples
    dtype = source.info.condition.stored_dtype
    return examples, put(source.conditions.astype(dtype), everywhere)


def _shape(x: np.ndarray, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def _held(parts: NamedSharding, shape: tuple[int, int]) -> list[np.ndarray]:
    """Returns for each axis the indices that some device of this host needs."""
    blocks = parts.addressable_devices_indices_map(shape).values()
    return [
        np.unique(np.concatenate([np.arange(n)[block[axis]] for block in blocks]))
        for axis, n in enumerate(shape)
    ]


def _within(index: tuple, held: list, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Turns an index into the whole array into one into the part of this host."""
    moved = []
    for part, n, indices in zip(index, shape, held, strict=False):
        start, stop, _ = part.indices(n)
        first = start if indices is None else int(np.searchsorted(indices, start))
        moved.append(slice(first, first + stop - start))
    return tuple(moved)
