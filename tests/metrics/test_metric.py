"""What a metric's decorator says of it."""

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics.metric import Comparison, metric


def test_a_metric_gives_what_its_decorator_names():
    @metric(lower="gap", higher=["a", "b"])
    def mine(real, fake):
        return {"gap": 1, "a": 2}

    assert (mine.lower, mine.higher) == (("gap",), ("a", "b"))
    sets = Comparison(np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(UserError, match="gives no 'b', which its decorator names"):
        mine.measure(sets)
