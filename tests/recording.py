"""What a function draws, for a test that computes the same another way."""

from unittest import mock

import jax


def recorded(evaluate, *names):
    """Returns a function that returns also all that it draws, in order.

    Args:
      evaluate: draws by functions of `jax.random`.
      *names: of these functions.
    """

    def wrapped(*args):
        draws = []

        def recording(draw):
            def recorded_draw(*args, **kwargs):
                draws.append(draw(*args, **kwargs))
                return draws[-1]

            return recorded_draw

        patches = {name: recording(getattr(jax.random, name)) for name in names}
        with mock.patch.multiple(jax.random, **patches):
            return evaluate(*args), draws

    return wrapped
