import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from idx_files import write_idx


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """One cache for the whole session: like programs are compiled once."""
    folder = str(tmp_path_factory.mktemp("cache"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # for the commands tests start
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def idx_dir(tmp_path_factory):
    return write_idx(tmp_path_factory.mktemp("idx"))
