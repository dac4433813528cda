"""Networks of a few parameters, on which penalties and steps are checked."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


class Smooth:
    """One hidden layer of tanh: no kink is in the way of a finite difference."""

    class Generator(nn.Module):
        """Latents, beside the condition if there is one, to an example."""

        shape: tuple[int, ...]
        num_classes: int = 0
        condition: object = None

        @nn.compact
        def __call__(self, latents: Array, condition=None, *, train: bool) -> Array:
            """Maps `[batch, size]` to `[batch, *shape]`."""
            h = nn.tanh(nn.Dense(4)(_beside(latents, condition, self.num_classes)))
            x = nn.Dense(math.prod(self.shape))(h)
            return nn.tanh(x).reshape(-1, *self.shape)

    class Discriminator(nn.Module):
        """An example, beside the condition if there is one, to a logit.

        It also has features, and in a GAN with classes a classifier of them.
        """

        shape: tuple[int, ...]
        num_classes: int = 0
        condition: object = None
        per_example = True

        @nn.compact
        def __call__(self, x: Array, condition=None, *, train: bool) -> Array:
            """Maps `[batch, *shape]` to `[batch]`."""
            h = nn.tanh(nn.Dense(4)(_beside(x, condition, self.num_classes)))
            self.sow("intermediates", "features", h, lambda _, new: new, lambda: None)
            if self.num_classes:
                classes = nn.Dense(self.num_classes)(h)
                name = "class_logits"
                self.sow(
                    "intermediates", name, classes, lambda _, new: new, lambda: None
                )
            return nn.Dense(1, name="logit")(h)[:, 0]


class Linear:
    r"""The game $D(x) = (\psi - \psi^*)^\top A x$, in which G makes $\theta$.

    With one coordinate, $A = 1$ and $\psi^* = 0$ it is the Dirac-GAN (Mescheder et al.
    2018, arXiv:1801.04406, definition 2.1).
    """

    class Generator(nn.Module):
        """Makes one and the same example of all latents."""

        shape: tuple[int, ...]

        @nn.compact
        def __call__(self, latents: Array, condition=None, *, train: bool) -> Array:
            """Maps `[batch, size]` to `[batch, *shape]`."""
            theta = self.param("theta", nn.initializers.zeros, self.shape)
            return jnp.broadcast_to(theta, (len(latents), *self.shape))

    class Discriminator(nn.Module):
        """Linear in the example, and in its parameters.

        Attributes:
          shape: of one example.
          matrix: A, its rows.
          rest: the parameters at which D is constant.
          constant: that is added to every logit.
        """

        shape: tuple[int, ...]
        matrix: tuple[tuple[float, ...], ...] = ((1.0,),)
        rest: tuple[float, ...] = (0.0,)
        constant: float = 0.0
        per_example = True

        @nn.compact
        def __call__(self, x: Array, condition=None, *, train: bool) -> Array:
            """Maps `[batch, *shape]` to `[batch]`."""
            psi = self.param("psi", nn.initializers.zeros, self.shape)
            slope = (psi - jnp.asarray(self.rest)) @ jnp.asarray(self.matrix)
            h = x * slope
            self.sow("intermediates", "features", h, lambda _, new: new, lambda: None)
            return h.sum(-1) + self.constant


def _beside(x: Array, condition: Array | None, num_classes: int) -> Array:
    """Returns inputs as vectors, those of the condition after them."""
    x = x.reshape(len(x), -1)
    if condition is None:
        return x
    told = jax.nn.one_hot(condition, num_classes) if num_classes else condition
    return jnp.concatenate([x, told.reshape(len(x), -1)], 1)
