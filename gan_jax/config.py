"""The keys of an experiment, their defaults, and what each may hold."""

import math

from ml_collections import ConfigDict

from gan_jax.errors import UserError, unknown


def default() -> ConfigDict:
    """Returns every key with its default; a config file changes what it needs."""
    c = ConfigDict()
    c.seed = 0
    c.replicas = 1  # runs trained at once, with seeds seed, seed + 1, ...
    c.num_steps = 10_000  # generator updates
    c.batch_size = 128
    _set_game(c)
    _set_networks(c)
    _set_optimization(c)
    _set_data(c)
    _set_run(c)
    return c.lock()


def _set_game(c: ConfigDict) -> None:
    # A name in gan_jax/objective/losses.py or your own `file.py:name`, with settings
    # and transforms: 'least_squares(b=0.9)', 'minimax, label_smoothing'.
    c.loss = "non_saturating"
    # Names in gan_jax/objective/penalties or your own: 'r1(weight=5, every=16), lecam'.
    c.penalties = ""
    # What D sees examples through: 'color, translation' (gan_jax/objective/augment.py).
    c.augment = ""
    c.step = "alternating"  # how the players move (gan_jax/algorithm/dynamics.py)
    c.d_updates = 1  # discriminator updates to each generator update
    c.pack = 1  # examples that D sees as one (PacGAN)
    c.replay = 0  # size of the buffer of earlier samples that D sees again


def _set_networks(c: ConfigDict) -> None:
    # A module in gan_jax/models or your own `file.py`. `generator` and `discriminator`
    # set further fields of the two networks, such as 'depth=3, output="sigmoid"'.
    c.model = "dcgan"
    c.width = 64
    c.generator = ""
    c.discriminator = ""
    c.conditional = False  # give both players the condition, such as class labels
    c.latent_size = 100  # 0 for a generator of its condition alone
    c.latent = "normal"  # or 'uniform'


def _set_optimization(c: ConfigDict) -> None:
    # Any optimizer of optax; `d_optimizer` if the discriminator's differs.
    c.optimizer = "adam(learning_rate=2e-4, b1=0.5, b2=0.999)"
    c.d_optimizer = ""
    # Of the learning rate: 'constant', or 'linear' or 'cosine' to zero; each also with
    # a warm-up over the first steps, 'linear(warmup=500)', or falling only after a
    # share of all steps, 'linear(hold=0.5)'.
    c.schedule = "constant"
    c.accumulate = 1  # parts of a batch whose gradients are computed one by one
    c.precision = "float32"  # of the networks; or 'bfloat16'; the rest is float32
    # Of the averaged generator that is sampled. `ema_halflife`, in images, replaces
    # `ema_decay` if it is above 0; it is at most the share `ema_rampup` of the images
    # seen so far.
    c.ema_decay = 0.999
    c.ema_halflife = 0.0
    c.ema_rampup = 0.05


def _set_data(c: ConfigDict) -> None:
    c.image_size = 28
    c.data = ConfigDict()
    c.data.source = "tfds"  # a module in gan_jax/data, or your own `file.py`
    c.data.name = "mnist"
    c.data.split = "train"
    c.data.data_dir = ""  # '' for the source's default
    c.data.manual_dir = ""  # original files that you already have
    # Of images: 'rgb' or 'grey' converts them; 'auto' is grey only if all are.
    c.data.channels = "auto"
    c.data.fallback = True  # use a packaged sample if the set is not available
    c.data.resident_mb = 1024  # sets up to this size are kept on the device


def _set_run(c: ConfigDict) -> None:
    # Of the parameters and the optimizers' states: 'replicated', a copy on every
    # device, or 'fsdp', split over them.
    c.sharding = "replicated"

    c.guard = ConfigDict()
    c.guard.action = "stop"  # at a step that gives NaN or inf; or 'rollback'
    c.guard.rollbacks = 3  # at most
    # What an alarm does: 'warn', 'stop', 'rollback' or 'off'. There is one if, for
    # `patience` sample grids, the diversity of samples is below `diversity` of the
    # data's, or less than `modes` of its modes or classes have samples; if D is
    # saturated, or prefers samples, for `saturation` log lines; if the norm of a
    # player's gradient is below `vanishing`, or a loss or a norm above `explosion`.
    c.guard.collapse = "warn"
    c.guard.diversity = 0.1
    c.guard.modes = 0.5
    c.guard.patience = 3
    c.guard.saturation = 20
    c.guard.vanishing = 1e-7
    c.guard.explosion = 1e5

    c.eval = ConfigDict()
    c.eval.every = 0  # steps from one evaluation to the next; 0 for none
    c.eval.metrics = "fd"  # as in --metrics of gan_jax.evaluate: 'fd, prdc'
    c.eval.num = 2_000  # samples
    c.eval.features = ""  # whose features; '' for what suits the examples
    c.eval.best = ""  # the value whose best checkpoint is kept too: 'fd'; '' for none

    c.log_every = 50
    c.sample_every = 500
    c.checkpoint_every = 500
    c.keep_checkpoints = 3
    # Steps in one compiled call, at most (the greatest length up to it that divides
    # log_every); 0 for log_every. Signals are answered at the end of a chunk: if steps
    # take long, make it short.
    c.chunk = 0


def variant(arg: str | None, *valid: str) -> str | None:
    """Returns which variant of a config file was asked for: `--config=file.py:ARG`.

    Args:
      arg: what `get_config` was given.
      *valid: the variants that the file has.

    Raises:
      UserError: it has none of that name.
    """
    if arg and arg not in valid:
        raise unknown("variant of the config", arg, valid)
    return arg


# A resumed run may change these: how long it runs, on which devices, what it writes and
# what stops it, but not what a step computes.
FREE_ON_RESUME = (
    "num_steps",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "chunk",
    "sharding",
    "guard.action",
    "guard.rollbacks",
    "guard.collapse",
    "guard.diversity",
    "guard.modes",
    "guard.patience",
    "guard.saturation",
    "guard.vanishing",
    "guard.explosion",
    "eval.every",
    "eval.metrics",
    "eval.num",
    "eval.features",
    "eval.best",
    "data.data_dir",
    "data.manual_dir",
    "data.fallback",
)

_POSITIVE = (
    "replicas",
    "num_steps",
    "batch_size",
    "d_updates",
    "pack",
    "accumulate",
    "width",
    "image_size",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "guard.patience",
    "guard.saturation",
)

_NOT_NEGATIVE = (
    "chunk",
    "latent_size",
    "replay",
    "data.resident_mb",
    "guard.rollbacks",
    "eval.every",
)

_CHOICES = {
    "data.channels": ("auto", "rgb", "grey"),
    "sharding": ("replicated", "fsdp"),
    "guard.action": ("stop", "rollback"),
    "guard.collapse": ("off", "warn", "stop", "rollback"),
}


def validate(config: ConfigDict) -> None:
    """Checks the values that need nothing but the config itself.

    Raises:
      UserError: a value is out of its range; says which and what it may be.
    """
    values = _flat(config.to_dict())
    _check_keys(values)
    _check_ranges(values)
    _check_batch(config)


def _check_keys(values: dict) -> None:
    known = all_keys()
    for key in values.keys() - known:
        check_key(key)
    if missing := sorted(known - values.keys()):
        raise UserError(
            f"the config lacks {', '.join(missing)}: start it from "
            "gan_jax.config.default()"
        )
    for key, value in values.items():  # a None passes ml_collections' own types
        if value is None:
            raise UserError(f"{key} is None: it must have a value")


def all_keys() -> set[str]:
    """Returns the names of all keys, such as `loss` and `data.name`."""
    return set(_flat(default().to_dict()))


def check_key(key: str) -> None:
    """Checks that there is a key of that name.

    Raises:
      UserError: there is none; names the nearest one.
    """
    known = all_keys()
    if key.rpartition(".")[2] in ("learning_rate", "lr"):
        raise UserError(
            f"unknown config key {key!r}: it is an argument of the optimizer: "
            "--config.optimizer='adam(learning_rate=...)'"
        )
    if not any(f"{other}.".startswith(f"{key}.") for other in known):
        raise unknown("config key", key, known)


def _check_ranges(values: dict) -> None:
    for key in _POSITIVE:
        if not 1 <= values[key] < 2**31:
            raise UserError(
                f"{key} is {values[key]}: it must be at least 1 and below 2**31"
            )
    updates = values["num_steps"] * values["d_updates"]
    if updates >= 2**31:
        raise UserError(f"num_steps * d_updates is {updates}: it must be below 2**31")
    for key, valid in _CHOICES.items():
        if values[key] not in valid:
            raise unknown(key, values[key], valid)
    for key in _NOT_NEGATIVE:
        if values[key] < 0:
            raise UserError(f"{key} is {values[key]}: it must not be negative")
    check_seed("seed", values["seed"])
    check_seed("seed + replicas - 1", values["seed"] + values["replicas"] - 1)
    for key in ("diversity", "modes", "vanishing", "explosion"):
        if not 0 <= values[f"guard.{key}"] < math.inf:
            raise UserError(
                f"guard.{key} is {values[f'guard.{key}']}: it must be a number >= 0"
            )
    if not 0 <= values["ema_decay"] < 1:
        raise UserError(f"ema_decay is {values['ema_decay']}: it must lie in [0, 1)")
    for key in ("ema_halflife", "ema_rampup"):
        if not 0 <= values[key] < math.inf:
            raise UserError(f"{key} is {values[key]}: it must be a number from 0 on")
    for key in ("sample_every", "checkpoint_every", "eval.every"):
        _check_multiple(key, values[key], values["log_every"])
    if values["eval.best"] and not values["eval.every"]:
        raise UserError(
            f"eval.best is {values['eval.best']!r}, and nothing is evaluated: set "
            f"--config.eval.every={values['checkpoint_every']}, or leave it out"
        )
    if not 2 <= values["eval.num"] < 2**24:
        raise UserError(
            f"eval.num is {values['eval.num']}: it must be at least 2 and below 2**24"
        )


def _check_multiple(key: str, value: int, log_every: int) -> None:
    if value % log_every:
        multiple = log_every * max(1, round(value / log_every))
        raise UserError(
            f"{key} is {value}: it must be a multiple of log_every ({log_every}); set "
            f"--config.{key}={multiple} or --config.log_every="
            f"{math.gcd(value, log_every)}"
        )


def _check_batch(config: ConfigDict) -> None:
    if config.batch_size % (config.pack * config.accumulate):
        raise UserError(
            f"batch_size is {config.batch_size}: it must be a multiple of pack "
            f"({config.pack}) times accumulate ({config.accumulate})"
        )
    if 0 < config.replay < config.batch_size:
        raise UserError(
            f"replay is {config.replay}: it must be 0, or at least batch_size "
            f"({config.batch_size})"
        )


def check_seed(name: str, seed: int) -> None:
    """Checks that a seed is one of the 2**32 that give different keys.

    Raises:
      UserError: it is not.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"{name} is {seed}: it must lie in [0, 2**32)")


def differences(old: dict, new: dict) -> list[str]:
    """Lists `key: old -> new` where two configs differ in what a run computes.

    A key that the old one lacks, because it is of an earlier version, has its default.
    """
    old, new = _flat(default().to_dict()) | _flat(old), _flat(new)
    free = set(FREE_ON_RESUME)
    if not str(new.get("schedule")).startswith("constant"):  # it ends with the run
        free.discard("num_steps")
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*old, *new} - free)
        if old.get(key) != new.get(key)
    ]


def _flat(tree: dict, prefix: str = "") -> dict:
    leaves = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
