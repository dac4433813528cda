"""Penalties: values and gradients by the parameters of their player.

They are called as in training, with a loss that is zero. The draws of a penalty are
those that gan_jax makes; a penalty with memory is followed over three updates.
"""

import dataclasses
from collections.abc import Callable

import pytest
from parity.peers import AUGMENT, F, build, mirrored, shifted, updates

from gan_jax.objective import penalties
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Penalty

torch = pytest.importorskip("torch")
NOTHING = Loss(d=lambda real, fake: 0 * real, g=lambda fake, real: 0 * fake)


@dataclasses.dataclass(frozen=True)
class Row:
    """A penalty, and the same of a `Peer` and the peers of the updates before."""

    penalty: str
    port: Callable
    player: str = "d"
    num: int = 1
    how: dict = dataclasses.field(default_factory=dict)

    def __str__(self):
        more = ",".join(map(str, self.how.values()))
        return f"{self.player}-{self.penalty}{more and '-' + more}"


# --- On the gradient by D's input -----------------------------------------------------


def r1(peer, past):
    return peer.squared_slopes(peer.real, peer.real_seen).mean() / 2


def r2(peer, past):
    return peer.squared_slopes(peer.fake, peer.fake_seen).mean() / 2


def interpolated(peer):
    t = peer.draws[0]
    return t * peer.fake + (1 - t) * peer.real


def gradient_penalty(peer, past, target=1.0):
    return (peer.squared_slopes(interpolated(peer)).sqrt() - target).pow(2).mean()


def one_sided(peer, past, target=2.5):
    excess = peer.squared_slopes(interpolated(peer)).sqrt() - target
    assert 0 < (excess > 0).sum() < len(excess)  # or the row shows nothing
    return F.relu(excess).pow(2).mean()


def zero_centred(peer, past):
    return peer.squared_slopes(interpolated(peer)).mean()


def dragan(peer, past):
    noise, t = peer.draws
    moved = peer.real + t * 0.5 * peer.real.std(unbiased=False) * noise
    return (peer.squared_slopes(moved).sqrt() - 1).pow(2).mean()


# --- On logits ------------------------------------------------------------------------


def drift(peer, past):
    return peer.logits[0].pow(2).mean()


def moving_average(values, decay):
    """The mean of values, each weighing `decay` of the next one."""
    weights = torch.tensor([decay**i for i in reversed(range(len(values)))])
    return (weights * torch.stack(values)).sum() / weights.sum()


def lecam(decay, positive=lambda gap: gap):
    def port(peer, past):
        real, fake = peer.logits
        means = [[x.mean().detach() for x in p.logits] for p in [*past, peer]]
        of_real, of_fake = (moving_average(m, decay) for m in zip(*means, strict=True))
        gaps = positive(real - of_fake), positive(of_real - fake)
        return sum(gap.pow(2).mean() for gap in gaps)

    return port


def lecam_from_2(peer, past):
    """As in the authors' code: a plain average, from the means of step 1 on."""
    real, fake = peer.logits
    if peer.step < 2:
        return 0 * real.sum()
    before = [x.mean().detach() for x in past[-1].logits]
    of_real, of_fake = (
        torch.lerp(x.mean().detach(), old, 0.7)
        for x, old in zip((real, fake), before, strict=True)
    )
    return (real - of_fake).pow(2).mean() + (fake - of_real).pow(2).mean()


# --- On changes of D's input ----------------------------------------------------------


def change(peer, logits, x):
    return (logits - peer.critic(x)).pow(2).mean()


def transformed(x, chosen, down, right):
    return shifted(mirrored(x, chosen), down, right, "reflect")


def cr(peer, past):
    return change(peer, peer.logits[0], transformed(peer.real, *peer.draws))


def cr_of_digits(peer, past):
    shift = shifted(peer.real, *peer.draws, "reflect")
    return change(peer, peer.logits[0], shift)


def bcr(peer, past):
    of_fake = change(peer, peer.logits[1], transformed(peer.fake, *peer.draws[3:]))
    return cr(dataclasses.replace(peer, draws=peer.draws[:3]), past) + of_fake


def near_samples(peer, sigma=0.3):
    return peer.generator(peer.latents + sigma * peer.draws[0])


def zcr_of_d(peer, past):
    near = near_samples(peer).detach()
    return (peer.critic(peer.fake) - peer.critic(near)).pow(2).mean()


def zcr_of_g(peer, past):
    return -0.4 * (peer.fake - near_samples(peer)).pow(2).mean()


# --- On parameters --------------------------------------------------------------------


def matrices(params):
    """The weights of layers as `[first axis, rest]`, the first as in PyTorch."""
    for name, value in params.items():
        if name == "kernel":
            order = {4: (3, 2, 0, 1), 2: (1, 0)}[value.ndim]
            yield value.permute(order).flatten(1)
        elif isinstance(value, dict):
            yield from matrices(value)


def orthogonal(relaxed):
    def port(peer, past):
        total = 0
        for w in matrices(getattr(peer, peer.player)):
            gram, one = w @ w.T, torch.eye(len(w))
            total += ((gram * (1 - one)) if relaxed else (gram - one)).pow(2).sum()
        return total

    return port


# --- On samples -----------------------------------------------------------------------


def feature_matching(peer, past):
    of_real, of_fake = map(peer.features, peer.seen)
    return F.mse_loss(of_fake.mean(0), of_real.mean(0).detach(), reduction="sum")


def path_lengths(peer):
    latents = peer.latents.detach().requires_grad_()
    noise = peer.draws[0] / 8  # the root of 64 pixels
    product = (peer.generator(latents) * noise).sum()
    return torch.autograd.grad(product, latents, create_graph=True)[0].norm(dim=1)


def path_length(peer, past):
    means = [path_lengths(p).mean().detach() for p in [*past, peer]]
    return (path_lengths(peer) - moving_average(means, 0.8)).pow(2).mean()


def mode_seeking(peer, past):
    """The same class for both latents of a pair, the second being that before."""
    before = torch.cat([peer.latents[-1:], peer.latents[:-1]])
    images = F.l1_loss(peer.fake, peer.generator(before))
    return 1 / (images / F.l1_loss(peer.latents, before) + 1e-5)


def reconstruction(cost):
    return lambda peer, past: cost(peer.fake, peer.real)


def classifier_of_d(peer, past):
    of_real = F.cross_entropy(peer.classify(peer.seen[0]), peer.c)
    return of_real + classifier_of_g(peer, past)


def classifier_of_g(peer, past):
    return F.cross_entropy(peer.classify(peer.seen[1]), peer.c)


AUXILIARY = {"how": {"discriminator": "auxiliary=True"}}
IN_TURN = {"how": {"discriminator": "per_example=False"}}  # real, then generated ones
AUGMENTED = {"how": {"augment": AUGMENT}}


def both(one, other):
    return {"how": one["how"] | other["how"]}


ROWS = [
    Row("r1", r1),
    Row("r1", r1, **IN_TURN),
    Row("r2", r2),
    Row("r2", r2, **IN_TURN),
    Row("gradient_penalty", gradient_penalty),
    Row(
        "gradient_penalty(target=3.0)",
        lambda *args: gradient_penalty(*args, target=3.0),
    ),
    Row("gradient_penalty(one_sided=True, target=2.5)", one_sided),
    Row("zero_centred_gradient_penalty", zero_centred),
    Row("dragan", dragan),
    Row("drift", drift),
    Row("lecam(decay=0.7)", lecam(0.7), num=3),
    Row("lecam(decay=0.7, relu=True)", lecam(0.7, F.relu), num=3),
    Row("lecam(decay=0.7, start=2)", lecam_from_2, num=3),
    Row("cr", cr),
    Row("cr(flip=False)", cr_of_digits),
    Row("bcr", bcr),
    Row("zcr(sigma=0.3, gamma=0.4)", zcr_of_d),
    Row("zcr(sigma=0.3, gamma=0.4)", zcr_of_g, "g"),
    Row("orthogonal", orthogonal(False)),
    Row("orthogonal(relaxed=True)", orthogonal(True)),
    Row("g_orthogonal", orthogonal(False), "g"),
    Row("g_orthogonal(relaxed=True)", orthogonal(True), "g"),
    Row("feature_matching", feature_matching, "g"),
    Row("path_length(decay=0.8)", path_length, "g", num=3),
    Row("mode_seeking", mode_seeking, "g"),
    Row("reconstruction", reconstruction(F.l1_loss), "g"),
    Row("reconstruction(squared=True)", reconstruction(F.mse_loss), "g"),
    Row("auxiliary_classifier", classifier_of_d, **AUXILIARY),
    Row("auxiliary_classifier", classifier_of_g, "g", **AUXILIARY),
    # Which terms see what D sees, and which the examples themselves.
    Row("r1", r1, **AUGMENTED),
    Row("r2", r2, **AUGMENTED),
    Row("r1", r1, **both(AUGMENTED, IN_TURN)),
    Row("gradient_penalty", gradient_penalty, **AUGMENTED),
    Row("dragan", dragan, **AUGMENTED),
    Row("lecam(decay=0.7)", lecam(0.7), num=3, **AUGMENTED),
    Row("bcr", bcr, **AUGMENTED),
    Row("zcr(sigma=0.3, gamma=0.4)", zcr_of_d, **AUGMENTED),
    Row("zcr(sigma=0.3, gamma=0.4)", zcr_of_g, "g", **AUGMENTED),
    Row("feature_matching", feature_matching, "g", **AUGMENTED),
    Row("auxiliary_classifier", classifier_of_d, **both(AUGMENTED, AUXILIARY)),
    Row("auxiliary_classifier", classifier_of_g, "g", **both(AUGMENTED, AUXILIARY)),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_penalty(row, near):
    gan = build(loss=NOTHING, penalties=weighted(row.penalty), **row.how)
    metric = {"d": "penalty_", "g": "g_penalty_"}[row.player] + gan.penalties[0].name
    past, got, wanted = [], [], []
    for found, peer in updates(gan, row.player, row.num):
        got.append((found.metrics[metric], found.grads))
        wanted.append(peer.with_gradients(row.port(peer, past)))
        past.append(peer)
    near(got, wanted)


def weighted(penalty):
    """Returns the text of a penalty with a weight of 1."""
    name, _, settings = penalty.rstrip(")").partition("(")
    return f"{name}(weight=1, {settings})" if settings else f"{name}(weight=1)"


def test_every_penalty_has_a_row():
    named = {row.penalty.partition("(")[0] for row in ROWS}
    terms = {name: getattr(penalties, name) for name in penalties.__all__}
    assert named == {name for name, x in terms.items() if isinstance(x, Penalty)}
