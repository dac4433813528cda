r"""Checks of a step: what it changes, and where it leads in the bilinear game.

$\min_\theta \max_\psi (\psi - \psi^*)^\top A (\theta - \theta^*)$, with an orthogonal
$A$ and an equilibrium away from the origin (arXiv:1802.10551, section 2): plain steps
of both players circle it, and only what looks ahead or back comes to it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Points
from gan_jax.algorithm.state import TrainState
from gan_jax.algorithm.steps import init_state, train_step
from gan_jax.build import preflight
from gan_jax.build.builder import build
from gan_jax.devices.mesh import make_mesh
from gan_jax.diagnostics.toys import Linear
from gan_jax.diagnostics.verdicts import Verdict, short, tried, verdict
from gan_jax.errors import one_line
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Dynamics

RATE = 0.2
OPTIMIZER = f"sgd(learning_rate={RATE})"
STEPS = 200
SEEDS = 3
A = np.array([[0.8, 0.6], [-0.6, 0.8]])
DATA, REST = np.array([1.0, -2.0]), np.array([0.5, 0.3])  # theta and psi at rest
# At the start, each player's gradient is orthogonal to how it changes with its own
# distance: whatever looks ahead first moves along it all the same.
FROM_DATA = np.array([0.6, 0.5])
FROM_REST = A @ np.array([-0.5, 0.6])
_FAR = 1e4  # distances from 1 / _FAR to _FAR of the first one are read
_CYCLES = 1e-3  # the rate of a cycle is 1 to this
_ROUNDING = 1e-5
_GAME = Loss(d=lambda real, fake: fake - real, g=lambda fake, real: -fake)


class Path(NamedTuple):
    """A run on the bilinear game.

    Attributes:
      theta: `[steps + 1, 2]`, G's parameters.
      psi: `[steps + 1, 2]`, D's.
      average: `[steps + 1, 2]`, the average of G's.
      counts: `[steps + 1]`, the state's `step`.
      metrics: `[steps]` each.
    """

    theta: np.ndarray
    psi: np.ndarray
    average: np.ndarray
    counts: np.ndarray
    metrics: dict[str, np.ndarray]

    @property
    def distances(self) -> np.ndarray:
        """The distance to the equilibrium before and after each step."""
        both = np.concatenate([self.theta - DATA, self.psi - REST], 1)
        return np.linalg.norm(both, axis=1)


def examine(dynamics: Dynamics, optimizer: str = OPTIMIZER) -> dict[str, Verdict]:
    """Checks a step.

    Args:
      dynamics: the step.
      optimizer: of both players, as in a config.

    Returns:
      The verdicts by the names of the checks. A check that raises has failed, with the
      exception as its reason. If the shapes are wrong, there is no other check.

    Raises:
      UserError: the optimizer makes no sense, or not with this step.
    """
    gan = game(dynamics, optimizer)
    path = tried(_followed, gan)
    if isinstance(path, Exception):
        return {"shapes": Verdict(False, one_line(path))}
    checks = {
        "shapes": lambda: Verdict(True, "those of the state before; scalar metrics"),
        "step counter": lambda: _counter(path),
        "D moves": lambda: _moves(path, "D"),
        "G moves": lambda: _moves(path, "G"),
        "average of G": lambda: _average(path),
        "metrics": lambda: _metrics(path),
        "replay": lambda: _replay(gan, path),
        "vmap over seeds": lambda: _seeds(gan, path),
        "bilinear game": lambda: _rate(path),
    }
    return {name: verdict(check) for name, check in checks.items()}


# --- The game -------------------------------------------------------------------------


def game(dynamics: Dynamics, optimizer: str = OPTIMIZER) -> GAN:
    """Returns the bilinear game, played by a step.

    Raises:
      UserError: as `examine`.
    """
    matrix, rest = (tuple(map(tuple, A.tolist())), tuple(REST.tolist()))
    return build(
        Points((2,)),
        model=Linear,
        latent_size=1,
        loss=_GAME,
        discriminator=f"matrix={matrix}, rest={rest}",
        step=dynamics,
        optimizer=optimizer,
    )


def follow(gan: GAN, steps: int = STEPS) -> Path:
    """Makes steps of the bilinear game, in one program."""

    def body(state, _):
        after, metrics = train_step(gan, state, _batch())
        return after, (_seen(after), metrics)

    start = _start(gan)
    run = jax.jit(lambda state: jax.lax.scan(body, state, length=steps)[1])
    seen, metrics = jax.device_get(run(start))
    path = (np.concatenate([[a], b]) for a, b in zip(_seen(start), seen, strict=True))
    return Path(*path, metrics)


def rate(distances: np.ndarray) -> float:
    """Returns the factor of the distance in a step.

    It is that of the mean distances of two halves, so that a cycle counts as one.

    Args:
      distances: `[steps + 1]`; those far from the first one are left out, where
        rounding rules.
    """
    near = np.abs(np.log(distances / distances[0])) < np.log(_FAR)
    num = len(distances) if near.all() else max(int(np.argmin(near)), 2)
    half = num // 2
    first, second = distances[:half].mean(), distances[half : 2 * half].mean()
    return float((second / first) ** (1 / half))


def _followed(gan: GAN) -> Path:
    preflight.check(gan, len(_batch()["example"]), make_mesh(1))
    return follow(gan)


def _batch() -> dict[str, Array]:
    return {"example": jnp.tile(jnp.float32(DATA), (2, 1))}


def _start(gan: GAN, seed: Array | int = 0) -> TrainState:
    state = init_state(gan, jax.random.key(seed))
    g = {"theta": jnp.float32(DATA + FROM_DATA)}
    d = {"psi": jnp.float32(REST + FROM_REST)}
    return state.replace(
        g=state.g.replace(params=g), d=state.d.replace(params=d), ema={"params": g}
    )


def _seen(state: TrainState) -> tuple[Array, ...]:
    g, d, ema = state.g.params, state.d.params, state.ema["params"]
    return g["theta"], d["psi"], ema["theta"], state.step


# --- The checks -----------------------------------------------------------------------


def _counter(path: Path) -> Verdict:
    moves = sorted(set(np.diff(path.counts).tolist()))
    text = f"state.step rises by {', '.join(map(str, moves))} in a step"
    return Verdict(moves == [1], text)


def _moves(path: Path, player: str) -> Verdict:
    """Checks that a player moves, and at first against its gradient."""
    params = path.psi if player == "D" else path.theta
    made = np.diff(params, axis=0)
    first = int(np.argmax((made != 0).any(1)))
    move = made[first]
    if not move.any():
        return Verdict(False, f"{player}'s parameters stay as they were")
    # D minimises (psi - REST) A (theta - DATA), and G its negative.
    downhill = -A @ (path.theta[first] - DATA)
    if player == "G":
        downhill = (path.psi[first] - REST) @ A
    norms = np.linalg.norm(move) * np.linalg.norm(downhill)
    cosine = float(move @ downhill / norms)
    text = f"cosine {short(cosine)} of its first move and its descent direction"
    return Verdict(cosine > 0, text + ("" if cosine > 0 else ": a sign is wrong"))


def _average(path: Path) -> Verdict:
    """Checks that the average, of which samples are drawn, follows G."""
    moved = float(np.abs(path.average[-1] - path.average[0]).max())
    if not moved:
        return Verdict(False, "state.ema stays as it was: use move_g, or g_step")
    off = np.linalg.norm(path.average[1] - path.theta[1])
    found = f"{short(off)} from G after a step"
    return Verdict(True, found)


def _metrics(path: Path) -> Verdict:
    bad = [name for name, x in path.metrics.items() if not np.isfinite(x).all()]
    if bad:
        return Verdict(False, f"NaN or inf: {', '.join(bad)}")
    return Verdict(bool(path.metrics), f"{len(path.metrics)} finite scalars")


def _replay(gan: GAN, path: Path) -> Verdict:
    """Makes the first step twice more, in a program of its own."""
    step = jax.jit(lambda state: _seen(train_step(gan, state, _batch())[0]))
    start = _start(gan)
    off = max(_off(step(start), path) for _ in range(2))
    text = f"the first step, compiled again, differs by {off:.2g}"
    return Verdict(off <= _ROUNDING, text + _why_random(off))


def _seeds(gan: GAN, path: Path) -> Verdict:
    def step(seed):
        return _seen(train_step(gan, _start(gan, seed), _batch())[0])

    made = jax.jit(jax.vmap(step))(jnp.arange(SEEDS))
    off = _off(jax.tree.map(lambda x: x[0], made), path)
    text = f"{SEEDS} at once; the first of them differs by {off:.2g}"
    return Verdict(off <= _ROUNDING, text + _why_random(off))


def _off(made: tuple[Array, ...], path: Path) -> float:
    first = (part[1] for part in path[:4])
    return max(float(np.abs(a - b).max()) for a, b in zip(made, first, strict=True))


def _why_random(off: float) -> str:
    why = ": draw random numbers from state.key and state.step alone"
    return "" if off <= _ROUNDING else why


def _rate(path: Path) -> Verdict:
    found = rate(path.distances)
    if not np.isfinite(found):
        return Verdict(False, "the distance to the equilibrium is NaN or inf")
    how = "converges" if found < 1 else "diverges"
    if abs(found - 1) <= _CYCLES:
        how = "cycles"
    return Verdict(True, f"the distance changes by a factor {found:.4f} a step: {how}")
