"""The metrics that `--metrics` and a config may name, each with its settings.

Each calls a function of this package, which has the formula and the source.
"""

import jax
import numpy as np

from gan_jax.algorithm.spaces import PianoRoll
from gan_jax.errors import UserError
from gan_jax.metrics import classifier_score, frechet, manifolds, motion, path_length
from gan_jax.metrics import diversity as of_diversity
from gan_jax.metrics import inception_score as of_classes
from gan_jax.metrics import kid as kernel
from gan_jax.metrics import memorisation as of_memory
from gan_jax.metrics import modes as of_modes
from gan_jax.metrics import music as of_music
from gan_jax.metrics import paired as of_pairs
from gan_jax.metrics.features.extractor import load_extractor
from gan_jax.metrics.metric import metric


@metric(lower="fd", distance=True)
def fd(real, fake):
    """The Fréchet distance; with the features of inception it is FID."""
    return frechet.frechet_distance(frechet.moments(real), frechet.moments(fake))


@metric(lower="fd_infinity", minimum=50)
def fd_infinity(real, fake, *, seed, points=15):
    """The Fréchet distance extrapolated to infinitely many samples."""
    return frechet.frechet_infinity(frechet.moments(real), fake, points, seed=seed)


@metric(lower="fd_per_class", distance=True)
def fd_per_class(real, fake, *, real_labels, fake_labels):
    """The mean of the Fréchet distances within each class."""
    found = frechet.frechet_per_class(real, real_labels, fake, fake_labels)
    return float(np.mean(list(found.values())))


@metric(lower="kid", distance=True)
def kid(real, fake, *, subsets=100, size=None):
    """The kernel distance; its ± is the spread over subsets, by their number's root."""
    mean, spread = kernel.kid(real, fake, subsets, size)
    return mean, spread / np.sqrt(subsets)


@metric(higher="inception_score", minimum=10)
def inception_score(real, fake, *, fake_logits, splits=10):
    """The Inception score, of the extractor's classifier; ± over splits."""
    mean, spread = of_classes.inception_score(fake_logits, splits)
    return mean, spread / np.sqrt(splits)


@metric(higher=manifolds.Manifolds._fields, minimum=6, distance=True)
def prdc(real, fake, *, k=3, dense_k=5):
    """Precision, recall, density and coverage."""
    return manifolds.manifolds(real, fake, k, dense_k)._asdict()


@metric(higher="authenticity")
def authenticity(real, fake):
    """The share of samples that are no copies of training examples."""
    return of_memory.authenticity(fake, real)


@metric
def memorisation(real, fake, *, test, seed):
    """How much nearer samples are to the training than to the test set."""
    return {
        "nearer_to_training": of_memory.nearer_to_training(fake, real, test, seed),
        "copying": of_memory.copying(fake, real, test, seed=seed),
    }


@metric(higher="diversity")
def diversity(real, fake):
    """The mean distance of two samples, and of two real examples."""
    return {
        "diversity": of_diversity.mean_distance(fake),
        "diversity_of_data": of_diversity.mean_distance(real),
    }


@metric(lower="ms_ssim")
def ms_ssim(real, fake, *, real_examples, fake_examples, seed, pairs=100):
    """The similarity of two samples, and of two real examples, over all classes."""
    found = {}
    for name, images in (
        ("ms_ssim", fake_examples),
        ("ms_ssim_of_data", real_examples),
    ):
        of_class = of_diversity.ms_ssim_diversity(images, None, pairs, seed)
        found[name] = float(np.mean(list(of_class.values())))
    return found


@metric(lower="l1", higher=("psnr", "ssim"))
def paired(
    real,
    fake,
    *,
    real_examples,
    fake_examples,
    real_conditions,
    fake_conditions,
    source,
):
    """The error of each translation, and of its input where that has the same shape.

    Of pairs whose images are translated into each other, that of each and of all.
    """
    at = np.arange(len(fake_examples)) % len(real_examples)
    if not np.array_equal(real_conditions[at], fake_conditions):
        raise UserError("metric 'paired' needs samples of the reference's conditions")
    if not getattr(source, "partners", True):
        raise UserError(
            "metric 'paired' needs images that belong together, and these are drawn "
            "independently: take --split=test of domains with files of equal names"
        )
    arrays = fake_examples, real_examples[at], fake_conditions
    if not source.info.example.is_pair:
        return _errors("", *arrays)
    (to_a, to_b), (a, b) = (np.moveaxis(x, 1, 0) for x in arrays[:2])
    sides = {"_to_a": (to_a, a, b), "_to_b": (to_b, b, a)}
    sides[""] = [np.concatenate(both) for both in zip(*sides.values(), strict=True)]
    return {k: x for side in sides for k, x in _errors(side, *sides[side]).items()}


@metric(lower="ppl")
def ppl(real, fake, *, traverse, latent, seed, num=10_000, epsilon=1e-4):
    """The perceptual path length, in the space of these features."""
    if not latent.size:
        raise UserError("metric 'ppl' needs latents; this run has latent_size 0")
    ends = [latent.sample(key, num) for key in jax.random.split(jax.random.key(seed))]
    return path_length.perceptual_path_length(
        traverse, *ends, epsilon=epsilon, path=latent.interpolate
    )


@metric(higher=("modes", "quality"), lower="reverse_kl")
def modes(real, fake, *, fake_examples, source):
    """Of a mixture: modes with samples, good samples, and the divergence over modes."""
    centres = getattr(source, "centres", None)
    if centres is None:
        raise UserError("metric 'modes' needs a mixture, such as data.name=ring")
    found = of_modes.coverage(fake_examples, centres, source.scale)
    nearest = of_modes.nearest_modes(fake_examples, centres)
    return found._asdict() | {
        "reverse_kl": of_modes.reverse_kl(nearest, len(centres)),
    }


@metric(higher="stacked_modes", lower="stacked_kl", extractor="mnist_lenet")
def stacked_modes(real, fake, *, real_logits, fake_logits):
    """Of Stacked-MNIST: the modes with samples, and the divergence over modes."""
    found, digits = {}, (10, 10, 10)
    for name, logits in (("", fake_logits), ("_of_data", real_logits)):
        if logits.shape[1] != np.prod(digits):
            raise UserError("metric 'stacked_modes' needs images of three digits")
        classes = np.unravel_index(logits.argmax(1), digits)
        modes, divergence = of_modes.stacked_coverage(np.stack(classes, 1))
        found |= {f"stacked_modes{name}": modes, f"stacked_kl{name}": divergence}
    return found


@metric(lower=("pitch_classes", "note_lengths"), distance=True)
def music(real, fake, *, real_examples, fake_examples, source):
    """Of piano rolls: distances of pitch classes and note lengths, and their style."""
    space = source.info.example
    if not isinstance(space, PianoRoll):
        raise UserError("metric 'music' needs piano rolls, such as data.source=midi")
    sets = real_examples, fake_examples
    in_data, found = (of_music.style(x, space.lowest)._asdict() for x in sets)
    return {
        "pitch_classes": of_music.pitch_class_distance(*sets, space.lowest),
        "note_lengths": of_music.note_length_distance(*sets, space.beat),
        **found,
        **{f"{name}_of_data": value for name, value in in_data.items()},
    }


@metric(lower=("fd_frames", "fd_motion"), distance=True)
def frames(real, fake, *, real_examples, fake_examples, features="pixels(side=16)"):
    """Of clips: the Fréchet distances of frames, and of what changes between them."""
    extractor = load_extractor(features)
    clips = real_examples, fake_examples
    pair = [motion.frame_features(extractor, one) for one in clips]
    return {
        "fd_frames": motion.frechet_of_frames(*pair),
        "fd_motion": motion.frechet_of_motion(*pair),
    }


@metric(lower=("speeds", "accelerations"), distance=True)
def speeds(real, fake, *, real_examples, fake_examples):
    """Of clips on black: the distances of speeds and accelerations, in pixels."""
    clips = real_examples, fake_examples
    return {
        "speeds": motion.distance(*map(motion.speeds, clips)),
        "accelerations": motion.distance(*map(motion.accelerations, clips)),
    }


@metric(higher="cas", minimum=100)
def cas(
    real,
    fake,
    *,
    real_examples,
    real_labels,
    fake_examples,
    fake_labels,
    test_examples,
    test_labels,
    seed,
    steps=2000,
):
    """The classifier accuracy score: trained on samples, on real examples, on both."""
    sets = (
        classifier_score.Labelled(*one)
        for one in (
            (fake_examples, fake_labels),
            (real_examples, real_labels),
            (test_examples, test_labels),
        )
    )
    found = classifier_score.classifier_score(*sets, steps=steps, seed=seed)
    return {"cas": found.fake, "cas_of_data": found.real, "cas_of_both": found.both}


def _errors(domain, made, wanted, inputs):
    """Returns the errors of translations, and of what they are made from."""
    sides = {domain: made}
    if wanted.shape == inputs.shape:
        sides[f"{domain}_of_input"] = inputs
    measures = {"l1": of_pairs.l1, "psnr": of_pairs.psnr, "ssim": of_pairs.ssim}
    return {
        f"{name}{side}": _mean(measure(images, wanted))
        for side, images in sides.items()
        for name, measure in measures.items()
    }


def _mean(values):
    """Returns the mean, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
