"""Layers, averages and optimizers, against those of PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from parity.peers import F, gradients, parameters, randomised, tensor

from gan_jax.algorithm.average import Average
from gan_jax.build import optimizers
from gan_jax.layers import conv, minibatch, norm
from gan_jax.layers.spectral import SpectralNorm

torch = pytest.importorskip("torch")
X = np.float32(np.random.default_rng(0).normal(0.3, 1, (6, 4, 4, 3)))
LABELS = np.array([0, 2, 1, 1, 0, 2])


def pulled_back(layer, seed, x, *args, **how):
    """Applies a layer with random variables.

    Returns:
      The variables, the weights of a sum over the output, and of that: the output, the
      new statistics, and its gradients by the parameters and by x.
    """
    variables = layer.init(jax.random.key(seed), x, *args, **how)
    stats = {name: value for name, value in variables.items() if name != "params"}
    params = randomised(variables.get("params", {}), seed)

    def apply(params, x):
        everything = {"params": params, **stats}
        return layer.apply(everything, x, *args, mutable=list(stats), **how)

    shape = jax.eval_shape(apply, params, x)[0].shape
    weights = np.float32(np.random.default_rng(seed).normal(size=shape))

    def total(params, x):
        y, moved = apply(params, x)
        return (y * weights).sum(), (y, moved)

    slopes, (y, moved) = jax.grad(total, (0, 1), has_aux=True)(params, x)
    return (params, stats, weights), (y, moved, *slopes)


def as_torch(params, weights, apply, x=X):
    """Returns the output of `apply(params, x)`, and its gradients as above."""
    params, x = parameters(params), tensor(x, requires_grad=True)
    y = apply(params, x)
    return y, *gradients((y * tensor(weights)).sum(), (params, x))


def channels_first(apply):
    return lambda p, x: apply(p, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


# --- Convolutions ---------------------------------------------------------------------


def plain(p, x, **how):
    return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p["bias"], **how)


def transposed(p, x, **how):
    """Our kernel is that of the convolution, so PyTorch's `[in, out, k, k]`."""
    kernel = p["kernel"].permute(3, 2, 0, 1)
    return F.conv_transpose2d(x, kernel, p["bias"], stride=2, padding=1, **how)


CONVOLUTIONS = {
    "strided": (conv.Conv(5), lambda p, x: plain(p, x, stride=2, padding=1)),
    "3x3": (conv.Conv(5, 3, 1), lambda p, x: plain(p, x, padding=1)),
    "transposed": (conv.ConvTranspose(5), transposed),
    "3x3 transposed": (
        conv.ConvTranspose(5, 3, extra=1),
        lambda p, x: transposed(p, x, output_padding=1),
    ),
    "reflected": (
        conv.ReflectConv(5, 3),
        lambda p, x: plain(p, F.pad(x, (1, 1, 1, 1), mode="reflect")),
    ),
    "up": (
        conv.UpConv(5, 3),
        lambda p, x: plain(p, F.interpolate(x, scale_factor=2), padding=1),
    ),
    "pool": (
        conv.ConvPool(5, 3),
        lambda p, x: F.avg_pool2d(plain(p, x, padding=1), 2),
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, near):
    layer, port = CONVOLUTIONS[name]
    (params, _, weights), (y, _, *slopes) = pulled_back(layer, 1, X)
    near((y, *slopes), as_torch(params, weights, channels_first(port)))


# --- Normalisation --------------------------------------------------------------------


class Weight(torch.nn.Module):
    """A matrix with a row for each input and a column for each output."""

    def __init__(self, matrix, u, v, iterations):
        super().__init__()
        self.matrix = torch.nn.Parameter(tensor(matrix))
        torch.nn.utils.parametrizations.spectral_norm(self, "matrix", iterations)
        spectral = self.parametrizations.matrix[0]
        spectral._u.data, spectral._v.data = tensor(v), tensor(u)
        self.vectors = spectral


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("layer", [nn.Dense(5), conv.Conv(5)], ids=["dense", "conv"])
def test_spectral_norm(layer, iterations, near):
    """Its matrix is PyTorch's transposed, so that both iterations start at `u`.

    PyTorch's matrix has a row for each output. It starts at `v` and is half an
    iteration ahead. It iterates in each pass in training, ours in each update.
    """
    x = X if isinstance(layer, conv.Conv) else X.reshape(6, -1)
    normed = SpectralNorm(layer, iterations)
    (params, stats, weights), (y, moved, *slopes) = pulled_back(normed, 2, x)
    before, after = (s["spectral"] for s in (stats, moved))
    kernel = params["layer"]["kernel"]
    module = Weight(
        kernel.reshape(-1, 5), before["kernel_u"], before["kernel_v"], iterations
    )
    bias, x = (tensor(a, requires_grad=True) for a in (params["layer"]["bias"], x))
    normed_kernel = module.matrix.reshape(kernel.shape)
    p = {"kernel": normed_kernel, "bias": bias}
    if x.ndim == 2:
        out = x @ p["kernel"] + bias
    else:
        out = channels_first(lambda p, x: plain(p, x, stride=2, padding=1))(p, x)
    original = module.parametrizations.matrix.original
    wanted = gradients((out * tensor(weights)).sum(), (original, bias, x))
    near(y, out)
    of_params = slopes[0]["layer"]
    near((of_params["kernel"].reshape(-1, 5), of_params["bias"], slopes[1]), wanted)
    near((after["kernel_v"], after["kernel_u"]), (module.vectors._u, module.vectors._v))


def test_batch_norm(near):
    """PyTorch's momentum is the share of what is new; its variance is unbiased."""
    layer = norm.batch_norm(train=True)
    x = X.reshape(-1, 3)

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layer(x)

    (params, _, weights), (y, moved, *slopes) = pulled_back(Layer(), 3, x)
    mean, var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    start, num = var.clone(), len(x)

    def port(p, x):
        p = p["BatchNorm_0"]
        return F.batch_norm(x, mean, var, p["scale"], p["bias"], True, 0.1, 1e-5)

    near((y, *slopes), as_torch(params, weights, port, x))
    biased = 0.9 * start + (var - 0.9 * start) * (num - 1) / num
    stats = moved["batch_stats"]["BatchNorm_0"]
    near((stats["mean"], stats["var"]), (mean, biased))


def test_conditional_batch_norm(near):
    layer = norm.ConditionalBatchNorm(3)
    (params, _, weights), (y, _, *slopes) = pulled_back(layer, 4, X, LABELS, train=True)

    def port(p, x):
        gain, bias = (p[name]["embedding"][LABELS] for name in ("gain", "bias"))
        x = F.batch_norm(x, None, None, training=True, eps=1e-5)
        return (1 + gain)[..., None, None] * x + bias[..., None, None]

    near((y, *slopes), as_torch(params, weights, channels_first(port)))


# --- Minibatch deviation --------------------------------------------------------------


def stylegan2_deviation(x, size):
    """Appends the mean deviation of groups, whose members are `num / size` apart."""
    n, c, h, w = x.shape
    groups = x.reshape(size, n // size, c, h, w)
    centred = groups - groups.mean(0)
    deviation = (centred.square().mean(0) + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat(
        [x, deviation.repeat(size)[:, None, None, None].expand(n, 1, h, w)], 1
    )


@pytest.mark.parametrize("size", [2, 3, 6])
def test_minibatch_deviation(size, near):
    """Our groups are of neighbours, StyleGAN2's are strided: one is a permutation."""

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return minibatch.append_deviation(x, size)

    order = np.arange(6).reshape(-1, size).T.reshape(-1)
    back = np.argsort(order)
    (_, _, weights), (y, _, _, slope) = pulled_back(Layer(), 5, X)
    out, _, wanted = as_torch(
        {},
        weights,
        lambda p, x: channels_first(lambda p, x: stylegan2_deviation(x, size))(
            p, x[order]
        )[back],
    )
    near((y, slope), (out, wanted))


# --- Averages and optimizers ----------------------------------------------------------


# Of each average the decay at a step in which D has seen `8 * step` images.
AVERAGES = {
    Average(0.7): lambda step: min(0.7, (1 + step) / (10 + step)),
    Average(halflife=20.0, rampup=0.2): lambda step: (
        0.5 ** (8 / max(min(20, 8 * step * 0.2), 1e-8))
    ),
    Average(halflife=20.0, rampup=0.0): lambda step: 0.5 ** (8 / 20),
}


@pytest.mark.parametrize("average", AVERAGES, ids=str)
def test_average(average, near):
    trees = [randomised({"w": jnp.zeros((3, 2))}, seed) for seed in range(7)]
    module = torch.nn.Linear(2, 3, bias=False, dtype=torch.float64)
    decays = map(AVERAGES[average], range(6))

    def moved(averaged, new, _):
        return torch.lerp(new, averaged, next(decays))

    theirs, ours = torch.optim.swa_utils.AveragedModel(module, avg_fn=moved), trees[0]
    module.weight.data = tensor(trees[0]["w"])
    theirs.update_parameters(module)  # the first time, weights are copied
    for step, tree in enumerate(trees[1:]):
        module.weight.data = tensor(tree["w"])
        theirs.update_parameters(module)
        ours = average.update(ours, tree, jnp.int32(step), 8)
    near(ours["w"], theirs.module.weight)


OPTIMIZERS = {
    "adam(learning_rate=0.01, b1=0.5)": lambda p: torch.optim.Adam(
        p, 0.01, betas=(0.5, 0.999)
    ),
    "adam(learning_rate=0.01, b1=0.0, b2=0.9, eps=1e-3)": lambda p: torch.optim.Adam(
        p, 0.01, betas=(0.0, 0.9), eps=1e-3
    ),
    "sgd(learning_rate=0.1, momentum=0.9)": lambda p: torch.optim.SGD(p, 0.1, 0.9),
}


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_optimizers(text, near):
    tx = optimizers.build(text, "constant", 10)
    start = ours = randomised({"w": jnp.zeros((3, 2))}, 0)["w"]
    theirs = tensor(ours, requires_grad=True)
    optimizer, opt = OPTIMIZERS[text]([theirs]), tx.init(ours)
    for seed in range(1, 4):
        grads = randomised(ours, seed)
        updates, opt = tx.update(grads, opt, ours)
        ours = optax.apply_updates(ours, updates)
        theirs.grad = tensor(grads)
        optimizer.step()
    near(ours - start, theirs - tensor(start))
