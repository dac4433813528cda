import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """One cache for the whole session: like programs are compiled once."""
    folder = str(tmp_path_factory.mktemp("cache"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # for the commands tests start
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
