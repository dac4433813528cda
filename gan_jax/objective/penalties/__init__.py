"""Penalties: terms that are added to a player's objective, by kind.

Each file holds one kind. A penalty is a function `(critic, real, fake, key) -> values`
under the decorator `@penalty`, or a projection of D's parameters under `@constraint`
(gan_jax/objective/terms.py, which lists what it may ask for). A config names them with
weights and settings: `penalties = 'r1(weight=10, every=16), lecam'`. A new one is
exported here and gets a row in tests/objective/test_penalties.py; none of them changes
another, and any of them may be edited freely.
"""

from gan_jax.objective.penalties.consistency import bcr, cr, zcr
from gan_jax.objective.penalties.gradients import (
    dragan,
    gradient_penalty,
    r1,
    r2,
    zero_centred_gradient_penalty,
)
from gan_jax.objective.penalties.logits import drift, lecam
from gan_jax.objective.penalties.parameters import (
    g_orthogonal,
    orthogonal,
    weight_clipping,
)
from gan_jax.objective.penalties.samples import (
    auxiliary_classifier,
    feature_matching,
    mode_seeking,
    path_length,
    reconstruction,
)
from gan_jax.objective.penalties.translation import cycle, identity

__all__ = [
    "auxiliary_classifier",
    "bcr",
    "cr",
    "cycle",
    "dragan",
    "drift",
    "feature_matching",
    "g_orthogonal",
    "gradient_penalty",
    "identity",
    "lecam",
    "mode_seeking",
    "orthogonal",
    "path_length",
    "r1",
    "r2",
    "reconstruction",
    "weight_clipping",
    "zcr",
    "zero_centred_gradient_penalty",
]
