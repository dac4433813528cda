"""Losses: values and gradients by the parameters of both networks."""

import dataclasses
import math
from collections.abc import Callable

import pytest
from parity.peers import F, build, updates

from gan_jax.objective import losses, targets
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Family, Transform

torch = pytest.importorskip("torch")


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss, and what D and G minimise: `(real, fake, draws) -> [batch]`."""

    loss: str
    d: Callable
    g: Callable

    def __str__(self):
        return self.loss


def against(logits, target):
    """The cross-entropy of a logit with a target, a number or one for each."""
    target = torch.broadcast_to(torch.as_tensor(target, dtype=logits.dtype), [6])
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def logistic(real, fake, draws):
    return against(real, 1) + against(fake, 0)


def towards_real(real, fake, draws):
    return against(fake, 1)


def least_squares(a, b, c):
    return (
        lambda real, fake, draws: ((real - b) ** 2 + (fake - a) ** 2) / 2,
        lambda real, fake, draws: (fake - c) ** 2 / 2,
    )


def hinge(real, fake, draws):
    return F.relu(1 - real) + F.relu(1 + fake)


def critic(real, fake, draws):
    return -fake


# --- Relativistic (arXiv:1807.00734, section 4) --------------------------------------

FUNCTIONS = {
    "logistic": lambda x: against(x, 1),
    "hinge": lambda x: F.relu(1 - x),
    "least_squares": lambda x: (x - 1) ** 2,
}


def relativistic(name):
    f = FUNCTIONS[name]
    return Row(
        f"relativistic(f={name!r})",
        lambda real, fake, draws: f(real - fake),
        lambda real, fake, draws: f(fake - real),
    )


def average_of_d(name):
    """Each kind has its own f: that of generated examples mirrors that of real ones."""
    of_real, of_fake = {
        "logistic": (lambda x: against(x, 1), lambda x: against(x, 0)),
        "hinge": (lambda x: F.relu(1 - x), lambda x: F.relu(1 + x)),
        "least_squares": (lambda x: (x - 1) ** 2, lambda x: (x + 1) ** 2),
    }[name]
    return lambda real, fake: of_real(real - fake.mean()) + of_fake(fake - real.mean())


def relativistic_average(name):
    d = average_of_d(name)
    return Row(
        f"relativistic_average(f={name!r})",
        lambda real, fake, draws: d(real, fake),
        lambda real, fake, draws: d(fake, real),
    )


def contrast(real, fake, draws):
    """Cross-entropies of one among many (arXiv:2103.16748, eq. 3 and 4)."""

    def first_of(own, others):
        logits = torch.cat([own[:, None], others.expand(len(own), -1)], 1)
        return F.cross_entropy(logits, torch.zeros(len(own)).long(), reduction="none")

    return first_of(real, fake) + first_of(-fake, -real)


# --- f-GAN (arXiv:1606.00709, tables 2 and 6) ----------------------------------------

# Of each divergence the last activation g_f(v), and the conjugate f*(t).
DIVERGENCES = {
    "kl": (lambda v: v, lambda t: torch.exp(t - 1)),
    "reverse_kl": (lambda v: -torch.exp(-v), lambda t: -1 - torch.log(-t)),
    "pearson": (lambda v: v, lambda t: t**2 / 4 + t),
    "squared_hellinger": (lambda v: 1 - torch.exp(-v), lambda t: t / (1 - t)),
    "jensen_shannon": (
        lambda v: math.log(2) - torch.log(1 + torch.exp(-v)),
        lambda t: -torch.log(2 - torch.exp(t)),
    ),
    "gan": (
        lambda v: -torch.log(1 + torch.exp(-v)),
        lambda t: -torch.log(1 - torch.exp(t)),
    ),
}


def f_gan(name, saturating):
    activation, conjugate = DIVERGENCES[name]

    def bound(real, fake):
        return activation(real) - conjugate(activation(fake))

    return Row(
        f"f_gan(divergence={name!r}, saturating={saturating})",
        lambda real, fake, draws: -bound(real, fake),
        lambda real, fake, draws: (
            bound(real, fake) - activation(real) if saturating else -activation(fake)
        ),
    )


# --- Changed labels -------------------------------------------------------------------


def smoothed(real, fake, draws):
    return against(real, 0.8) + against(fake, 0.1)


def flipped(real, fake, draws):
    return against(real, 1.0 - draws[0].double()) + against(fake, draws[1].double())


def jittered(real, fake, draws):
    """Targets uniform in [0.7, 1.2] and [0, 0.3]."""
    to_real, to_fake = 0.7 + 0.5 * draws[0], 0.3 * draws[1]
    return against(real, to_real) + against(fake, to_fake)


def smoothed_squares(real, fake, draws):
    """Targets of -1 and 1, moved by a tenth of their distance to one another."""
    return ((real - 0.8) ** 2 + (fake + 0.8) ** 2) / 2


ROWS = [
    Row("non_saturating", logistic, towards_real),
    Row("minimax", logistic, lambda real, fake, draws: -against(fake, 0)),
    Row("hinge", hinge, critic),
    Row("wasserstein", lambda real, fake, draws: fake - real, critic),
    Row("least_squares", *least_squares(0, 1, 1)),
    Row("least_squares(a=-1, b=1, c=0)", *least_squares(-1, 1, 0)),
    *map(relativistic, FUNCTIONS),
    *map(relativistic_average, FUNCTIONS),
    Row("dual_contrastive", contrast, lambda *args: -contrast(*args)),
    *(f_gan(name, saturating) for name in DIVERGENCES for saturating in (False, True)),
    Row("non_saturating, label_smoothing(fake=0.1, real=0.8)", smoothed, towards_real),
    Row("non_saturating, label_flipping(p=0.4)", flipped, towards_real),
    Row("non_saturating, noisy_labels", jittered, towards_real),
    Row(
        "least_squares(a=-1, b=1, c=0), label_smoothing(real=0.9, fake=0.1)",
        smoothed_squares,
        least_squares(-1, 1, 0)[1],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("player", ["d", "g"])
def test_a_loss(row, player, near):
    ((found, peer),) = updates(build(loss=row.loss), player)
    value = getattr(row, player)(*peer.logits, peer.draws).mean()
    near((found.metrics[f"{player}_loss"], found.grads), peer.with_gradients(value))


def test_every_loss_has_a_row():
    named = {part.partition("(")[0] for row in ROWS for part in row.loss.split(", ")}
    public = vars(losses) | vars(targets)
    kinds = Loss, Family, Transform
    assert {name for name, x in public.items() if isinstance(x, kinds)} <= named
