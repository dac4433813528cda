import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a test's time is compilation. The commands that tests start inherit this;
# .ci/run also runs some tests with it set to 0.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

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
    os.environ["XDG_CACHE_HOME"] = folder  # where features of data are kept
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", autouse=True)
def no_programs_of_other_modules():
    """Frees compiled programs, of which a worker would collect gigabytes."""
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


# Each line of stdin is a request to a process that has imported the package already: to
# fork and run a command, or to wait for one that it has forked. The answer is a line.
FORKS = """
import json, os, resource, sys, traceback
import gan_jax.check, gan_jax.compile, gan_jax.evaluate, gan_jax.export, gan_jax.runs
import gan_jax.sample, gan_jax.train, gan_jax.translate
from gan_jax import cli

def child(module, args, env, out, err):
    for fd, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    os.environ.update(env)
    resource.setrlimit(resource.RLIMIT_CPU, (200, 200))  # of a run that must not start
    sys.argv = [module, *args]
    status = 99
    try:
        cli.run(getattr(gan_jax, module).main)
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass
    os._exit(status)

for line in sys.stdin:
    request = json.loads(line)
    if isinstance(request, list):
        answer = os.fork()
        if answer == 0:
            child(*request)
    else:
        _, status = os.waitpid(request, 0)
        answer = os.waitstatus_to_exitcode(status)
    print(json.dumps(answer), flush=True)
"""


class Fork:
    """A command that runs in a fork.

    Attributes:
      pid: of its process.
    """

    def __init__(self, ask, request):
        self._ask, self.pid = ask, ask(request)

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self):
        """Returns the exit status, negative for a signal."""
        return self._ask(self.pid)


class Forks:
    """Runs commands in forks of a process that has imported the package."""

    def __init__(self, server, folder):
        self._server, self._folder = server, folder

    def __call__(self, module, *args, **env):
        """Runs a command, and returns its status, stdout and stderr."""
        out, err = (self._folder / name for name in ("out", "err"))
        status = self.start(module, *args, out=out, err=err, **env).wait()
        return status, out.read_text(), err.read_text()

    def start(self, module, *args, out=os.devnull, err=os.devnull, **env):
        """Starts a command whose output goes to these files."""
        return Fork(self._ask, [module, args, env, str(out), str(err)])

    def _ask(self, request):
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Runs commands: `forks(module, *args, **env) -> (status, stdout, stderr)`."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield Forks(server, tmp_path_factory.mktemp("forks"))
        server.stdin.close()


# Each line of stdin starts a fork of one process that has imported everything, but has
# not started JAX's backend: the number of devices is still open. It runs Python code.
SPAWNER = """
import json, os, sys, time, warnings
import gan_jax.sample, gan_jax.train, grain, orbax.checkpoint, tensorboardX, tensorstore
from jax.experimental import multihost_utils
from gan_jax import cli

warnings.filterwarnings("ignore", message="os.fork")

def child(code, argv, devices, out, err):
    for path, fd in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), fd)
    flags = f"--xla_force_host_platform_device_count={devices}"
    os.environ["XLA_FLAGS"] = flags
    sys.argv = argv
    exec(compile(code, "<spawned>", "exec"), {"__name__": "spawned"})

def start(**what):
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        child(**what)
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        import traceback; traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)

def wait(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)

for line in sys.stdin:
    name, what = json.loads(line)
    print(json.dumps({"start": start, "wait": wait}[name](**what)), flush=True)
"""


class Spawned:
    """A process that was forked; see `spawn`."""

    def __init__(self, ask, folder, code, argv, devices):
        self._ask, self.status = ask, None
        self._out, self._err = folder / "out", folder / "err"
        self._err.touch()
        what = {"code": code, "argv": [str(arg) for arg in argv], "devices": devices}
        self.pid = ask("start", **what, out=str(self._out), err=str(self._err))

    def wait(self, seconds=120):
        """Returns the exit status, None if it still runs after so many seconds."""
        if self.status is None:
            self.status = self._ask("wait", pid=self.pid, seconds=seconds)
        return self.status

    def signal(self, number):
        """Sends a signal to the process if it still runs."""
        if self.wait(0.001) is None:
            os.kill(self.pid, number)

    @property
    def out(self):
        return self._out.read_text()

    @property
    def err(self):
        return self._err.read_text()


@pytest.fixture(scope="session")
def spawner():
    with subprocess.Popen(
        [sys.executable, "-c", SPAWNER],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def ask(name, **what):
            server.stdin.write(json.dumps([name, what]) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.fixture
def spawn(spawner, tmp_path_factory):
    """Runs code in a fork: `spawn(code, *argv, devices=1) -> Spawned`.

    Several may run at once. Those that still run when the test ends are killed.
    """
    started = []

    def start(code, *argv, devices=1):
        folder = tmp_path_factory.mktemp("spawned")
        started.append(Spawned(spawner, folder, code, argv, devices))
        return started[-1]

    yield start
    for process in started:
        process.signal(signal.SIGKILL)
        process.wait(10)


@pytest.fixture
def free_port():
    """Returns a port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
