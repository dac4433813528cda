import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from idx_files import write_idx
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """One cache for all workers: like programs are compiled once."""
    folder = str(tmp_path_factory.getbasetemp().parent / "cache")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # for the commands tests start
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", autouse=True)
def no_programs_of_other_modules():
    """Lets go of compiled programs, of which a worker would gather gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def idx_dir(tmp_path_factory):
    return write_idx(tmp_path_factory.mktemp("idx"))


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of small colour images in two classes."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (root / label).mkdir()
        for i in range(10):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    return root


# Each line of stdin is a command, run in a fork of one process that has imported the
# package already; what it left is answered in a line.
FORKS = """
import json, os, sys, tempfile
import gan_jax.check, gan_jax.sample, gan_jax.train
from gan_jax import cli

def child(module, args, out, err):
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.argv = [module, *args]
    cli.run(getattr(gan_jax, module).main)

for line in sys.stdin:
    module, args = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            try:
                child(module, args, out, err)
            except SystemExit as stop:
                sys.stdout.flush()
                os._exit(stop.code or 0)
            finally:
                sys.stderr.flush()
                import traceback; traceback.print_exc()
                os._exit(99)
        _, status = os.waitpid(pid, 0)
        out.seek(0), err.seek(0)
        texts = [file.read().decode() for file in (out, err)]
    print(json.dumps([os.waitstatus_to_exitcode(status), *texts]), flush=True)
"""


@pytest.fixture(scope="session")
def forks():
    """Runs commands: `forks(module, *args) -> (status, stdout, stderr)`."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def run(module, *args):
            server.stdin.write(json.dumps([module, args]) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield run
        server.stdin.close()
