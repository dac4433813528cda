"""Makes a Linen module of a Flax NNX module, by Flax's own bridge."""

import inspect
from typing import Any

from flax import nnx
from flax.core import FrozenDict
from jax import Array


class FromNNX(nnx.bridge.ToLinen):
    """An NNX module that is called as all networks are.

    It is made anew in each call, of the variables that the call gets and with its own
    random streams, so that it is as pure as a Linen module. `train` also sets the mode
    of its layers, such as `nnx.Dropout`, as `module.train()` and `module.eval()` do.
    """

    @property
    def per_example(self) -> bool:
        """Whether each logit depends on one example alone."""
        return getattr(self.nnx_class, "per_example", False)

    def __call__(self, x: Array, condition: Array | None, *, train: bool) -> Any:
        """Calls the module in training, or else in sampling."""
        return super().__call__(x, condition, train=train, nnx_method=_in_mode)


def from_nnx(module: type[nnx.Module], fields: dict[str, Any]) -> FromNNX:
    """Returns a network of an NNX module, which is made with `fields` and `rngs`."""
    parameters = inspect.signature(module.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return FromNNX(module, kwargs=FrozenDict(defaults | fields), metadata_fn=None)


def _in_mode(module: nnx.Module, x: Array, condition: Array | None, *, train: bool):
    (module.train if train else module.eval)()
    return module(x, condition, train=train)
