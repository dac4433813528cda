"""Runs in a bucket, which a stand-in on this machine serves."""

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from runs import SHRUNK, assert_same_run, config_of, records

from gan_jax.algorithm.spaces import Points
from gan_jax.errors import Stopped, UserError
from gan_jax.run import buckets, dumps, files, workdir, writers
from gan_jax.run.loop import Saver
from gan_jax.run.training import train
from gan_jax.run.writers import MetricsFile

if importlib.util.find_spec("gcsfs"):
    from google.cloud import storage

needs_gcs = pytest.mark.skipif(
    importlib.util.find_spec("gcsfs") is None, reason="pip install 'gan_jax[gcs]'"
)
SHORT = {"num_steps": 6, "sample_every": 3, "checkpoint_every": 3, "batch_size": 8}


@pytest.fixture(scope="module")
def served():
    """The stand-in, which the clients of this process and of commands ask."""
    from bucket_server import Buckets, serve

    stand_in = Buckets()
    server, url = serve(stand_in)
    env = {
        "STORAGE_EMULATOR_HOST": url,
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_CLOUD_PROJECT": "project",
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in env.items():
            patch.setenv(key, value)
        stand_in.env = env
        yield stand_in
    server.shutdown()
    server.server_close()


@pytest.fixture
def bucket(served, request):
    """The stand-in, and the URL of a bucket of this test alone."""
    name = "".join(x if x.isalnum() else "-" for x in request.node.name)[:50]
    served.objects[name] = {}
    served.failing, served.silent = False, None
    return served, name, f"gs://{name}"


def fewer_seconds(monkeypatch, lease=2.0, renew=0.2):
    monkeypatch.setattr(buckets, "LEASE", lease)
    monkeypatch.setattr(buckets, "_RENEW", renew)


# --- Runs ---------------------------------------------------------------------------


@needs_gcs
def test_a_run_is_the_same_as_on_disk(bucket, tmp_path, forks):
    server, name, url = bucket
    config = config_of("ring", **SHORT, **{"eval.every": 3, "eval.best": "fd"})
    folder = files.as_path(f"{url}/some folder/run")
    for path in (tmp_path / "run", folder):
        train(config, path)
    assert_same_run(tmp_path / "run", folder)

    def names(found):
        """Returns the names of files, without those of Orbax and the event files'."""
        kept = (x for x in found if "/" not in x or x.startswith("samples/"))
        return {x.partition(".out.tfevents")[0] for x in kept}

    there = server.files(name)
    there = {x.removeprefix("some folder/run/"): y for x, y in there.items()}
    here = {
        str(x.relative_to(tmp_path / "run")): x
        for x in tmp_path.rglob("run/**/*")
        if x.is_file()
    }
    # The lock of a bucket is gone with its process.
    assert names(there) == names(here) - {"lock"}
    assert {"config.json", "metrics.jsonl", "evaluations.jsonl", "real.png"} < {*there}
    for picture in ("samples/000003.png", "samples/000006.png", "real.png"):
        assert there[picture] == here[picture].read_bytes()
    assert {int(x.split("/")[1]) for x in there if x.startswith("best/")} == {
        int(x.name) for x in (tmp_path / "run/best").iterdir()
    }

    # What a finished run gives, by commands that are processes of their own.
    for where in (tmp_path / "run", folder):
        args = (f"--workdir={where}", "--step=best", "--num=4", f"--out={where}/a.png")
        status, _, err = forks("sample", *args, **server.env)
        assert status == 0, err
    drawn = server.files(name)["some folder/run/a.png"]
    assert drawn == (tmp_path / "run/a.png").read_bytes()
    status, out, err = forks("runs", f"{url}/some folder", "--json", **server.env)
    assert (status, err) == (0, "")
    about = json.loads(out)
    assert (about["run"], about["step"], about["status"]) == (str(folder), 6, "done")
    assert about["best"] in (3, 6)
    exports = (f"--workdir={folder}", f"--out={url}/exported")
    status, _, err = forks("export", *exports, **server.env)
    assert status == 0, err
    again = (f"--workdir={url}/exported", "--num=4", f"--out={tmp_path}/b.png")
    status, _, err = forks("sample", *again, **server.env)
    assert status == 0, err


def steps_of(content):
    """Returns the steps of an event file that have a loss."""
    from tensorboardX.proto.event_pb2 import Event

    steps, start = [], 0
    while start < len(content):  # a length, its checksum, an event, its checksum
        size = int.from_bytes(content[start : start + 8], "little")
        event = Event.FromString(content[start + 12 : start + 12 + size])
        steps += [event.step for value in event.summary.value if value.tag == "d_loss"]
        start += size + 16
    assert start == len(content)
    return steps


def events_of(server, name):
    return {k: x for k, x in server.files(name).items() if "tfevents" in k}


@needs_gcs
def test_events_are_there_before_their_checkpoint_and_once(bucket, monkeypatch):
    server, name, url = bucket
    monkeypatch.setattr(writers, "_EVENTS", 600)
    board = writers.Board(files.as_path(f"{url}/run"), 0)
    board.write({"step": 1, "d_loss": 1.0})
    board.write({"step": 2, "d_loss": 1.0})
    (content,) = events_of(server, name).values()
    assert steps_of(content) == [1]  # the next upload is due in half a minute
    board.sync()
    (content,) = events_of(server, name).values()
    assert steps_of(content) == [1, 2]
    server.failing = True
    monkeypatch.setattr(buckets, "_UPLOAD", 0)
    for step in (3, 4):
        board.write({"step": step, "d_loss": 1.0})
    with pytest.raises(OSError, match="accepts no writes now"):
        board.sync()
    server.failing = False
    for step in range(5, 100):
        board.write({"step": step, "d_loss": 1.0})
    board.close()
    found = [*map(steps_of, events_of(server, name).values())]
    assert len(found) > 3
    assert sorted(itertools.chain(*found)) == [*range(1, 100)]


def killed(server, name, wanted, *args):
    """Starts a run, kills it once an object is there, and returns what is left."""
    command = [sys.executable, "-m", "gan_jax.train", "--config=configs/ring.py", *args]
    env = os.environ | server.env
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as run:
        end = time.monotonic() + 120
        while not any(map(wanted, server.files(name))) and time.monotonic() < end:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert run.returncode == -signal.SIGKILL
    return server.files(name)


@needs_gcs
def test_a_killed_run_resumes_bit_for_bit(bucket, tmp_path, monkeypatch, capfd):
    """Killed while a checkpoint is written, of which a part is in the bucket."""
    server, name, url = bucket
    fewer_seconds(monkeypatch)
    keys = {**SHRUNK, **SHORT, "num_steps": 15}
    flags = [f"--config.{key}={value}" for key, value in keys.items()]
    left = killed(
        server,
        name,
        lambda x: x.startswith("run/checkpoints/9/default/ocdbt.process_0/d/"),
        f"--workdir={url}/run",
        *flags,
    )
    committed = {x.split("/")[2] for x in left if x.endswith("/commit_success.txt")}
    assert {"3", "6"} <= committed
    config = config_of("ring", **SHORT | {"num_steps": 15})
    train(config, f"{url}/run")
    assert "run is locked: waiting up to 2.0 seconds" in capfd.readouterr().err
    train(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", files.as_path(f"{url}/run"))


@needs_gcs
def test_a_damaged_checkpoint_is_set_aside(bucket, tmp_path, capfd):
    server, name, url = bucket
    for path in (tmp_path / "run", f"{url}/run"):
        train(config_of("ring", **SHORT), path)
    start = "run/checkpoints/6/default/d/"
    blobs = {k: x for k, x in server.objects[name].items() if k.startswith(start)}
    largest = max(blobs, key=lambda k: len(blobs[k].content))
    before, broken = blobs[largest], bytearray(blobs[largest].content)
    broken[len(broken) // 2] ^= 1
    server.objects[name][largest] = type(before)(bytes(broken), 10**6, before.updated)
    train(config_of("ring", **SHORT), f"{url}/run")
    assert "moved the checkpoint of step 6" in capfd.readouterr().err
    assert_same_run(tmp_path / "run", files.as_path(f"{url}/run"))
    moved = "run/damaged/6.0/" + largest.removeprefix("run/checkpoints/6/")
    assert server.files(name)[moved] == bytes(broken)


@needs_gcs
def test_no_checkpoint_is_called_damaged_where_the_bucket_is_silent(
    bucket, monkeypatch
):
    server, name, url = bucket
    path = files.as_path(f"{url}/run")
    train(config_of("ring", **SHORT), path)
    before = server.files(name)

    def silent(*_args, **_kwargs):
        raise ValueError("UNAVAILABLE: no route to host")

    monkeypatch.setattr("tensorstore.open", silent)
    with pytest.raises(UserError, match=r"step 6 in .* cannot be read now: .*UNAVAIL"):
        train(config_of("ring", **SHORT), path)
    assert server.files(name) == before


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *(("UNAVAILABLE", True), ("PERMISSION_DENIED", True), ("UNKNOWN", True)),
        *(("NOT_FOUND", False), ("DATA_LOSS", False), ("FAILED_PRECONDITION", False)),
    ],
)
def test_silence_is_told_from_damage(status, expected):
    assert buckets.is_silent(ValueError(f"{status}: Error reading")) is expected


@needs_gcs
def test_a_run_goes_on_while_nothing_can_be_written(
    bucket, tmp_path, monkeypatch, capfd
):
    server, _, url = bucket
    monkeypatch.setattr(buckets, "_UPLOAD", 0)
    real = Saver.save

    def save(saver, state, step, *args, **kwargs):
        """The checkpoint of step 3 is refused, and what else is due then."""
        server.failing = step < 6
        real(saver, state, step, *args, **kwargs)

    monkeypatch.setattr(Saver, "save", save)
    train(config_of("ring", **SHORT), f"{url}/run")
    err = capfd.readouterr().err
    assert "cannot save step 3" in err
    assert "training goes on, and the next save is tried" in err
    train(config_of("ring", **SHORT), tmp_path / "run")
    assert_same_run(tmp_path / "run", files.as_path(f"{url}/run"))


@needs_gcs
def test_a_rejected_step_is_replayed_from_the_bucket(bucket, tmp_path):
    server, name, url = bucket
    (tmp_path / "my.py").write_text(
        "def trap(critic, real, fake, key):\n    return critic(fake) * float('nan')\n"
    )
    config = config_of("ring", **SHORT, penalties=f"{tmp_path}/my.py:trap")
    with pytest.raises(Stopped, match="not finite at step 1: "):
        train(config, f"{url}/run")
    dump = files.as_path(f"{url}/run/guard/000001")
    assert {"run/guard/000001/arrays.npz", "run/guard/000001/config.json"} < {
        *server.files(name)
    }
    assert dumps.replay(dump, config) == 3


# --- Files --------------------------------------------------------------------------


@needs_gcs
def test_records_are_kept_while_they_cannot_be_written(bucket, monkeypatch):
    server, name, url = bucket
    monkeypatch.setattr(buckets, "_UPLOAD", 0)
    file = MetricsFile(files.as_path(f"{url}/run/metrics.jsonl"))
    file.write({"step": 1, "d_loss": 0.5})
    server.failing = True
    with pytest.raises(OSError, match="accepts no writes now"):
        file.write({"step": 2, "d_loss": float("nan")})
    with pytest.raises(OSError, match="accepts no writes now"):
        file.sync()
    assert server.files(name)["run/metrics.jsonl"].count(b"\n") == 1
    server.failing = False
    file.write({"step": 2, "d_loss": float("nan")})  # as `Writers` does
    file.write({"step": 3, "d_loss": 0.25})
    file.close()
    lines = server.files(name)["run/metrics.jsonl"].splitlines()
    assert [*map(json.loads, lines)] == [
        {"step": 1, "d_loss": 0.5},
        {"step": 2, "d_loss": None},
        {"step": 3, "d_loss": 0.25},
    ]
    again = MetricsFile(files.as_path(f"{url}/run/metrics.jsonl"), until=1)
    again.write({"step": 2, "d_loss": 1.0})
    again.close()
    left = records(files.as_path(f"{url}/run"))
    assert [(x["step"], x["d_loss"]) for x in left] == [(1, 0.5), (2, 1.0)]


@needs_gcs
def test_a_file_that_is_first_written_in_a_silence_is_written_later(bucket):
    server, name, url = bucket
    path = files.as_path(f"{url}/run")
    outputs = [
        writers.EvaluationsFile(path / "evaluations.jsonl"),
        writers.Board(path, 0),
    ]
    written = writers.Writers(outputs, Points((2,)), columns=1)
    server.silent = "run"
    for step in (1, 2):
        written.metrics({"step": step, "d_loss": [0.5]})
        written.evaluation({"step": step, "fd": [1.5]})
    assert server.files(name) == {}
    server.silent = None
    written.sync()
    lines = server.files(name)["run/evaluations.jsonl"].splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    (content,) = events_of(server, name).values()
    assert steps_of(content) == [1, 2]
    written.close()


@needs_gcs
def test_an_object_that_grows_is_uploaded_now_and_then(bucket, monkeypatch):
    server, name, url = bucket
    now = [100.0]
    monkeypatch.setattr(buckets.time, "monotonic", lambda: now[0])
    grows = files.growing(files.as_path(f"{url}/log"))
    seen = []
    for _ in range(100):  # a second each
        grows.write(b"x")
        grows.flush()
        seen.append(len(server.files(name)["log"]))
        now[0] += 1
    assert seen == [1] * 30 + [31] * 30 + [61] * 30 + [91] * 10
    grows.close()
    grows.close()
    assert len(server.files(name)["log"]) == 100
    assert server.written.count("log") == 5
    more = files.growing(files.as_path(f"{url}/log"))
    more.write(b"y")
    more.sync()
    assert server.files(name)["log"] == b"x" * 100 + b"y"


# --- Locks --------------------------------------------------------------------------


@needs_gcs
def test_two_runs_cannot_train_in_one_folder(bucket, monkeypatch):
    server, name, url = bucket
    fewer_seconds(monkeypatch)
    path = files.as_path(f"{url}/run")
    with workdir.locked(path):
        generation = server.objects[name]["run/lock"].generation
        assert workdir.is_locked(path)
        with pytest.raises(UserError, match=f"another process trains in .*{name}/run"):
            train(config_of("ring", **SHORT), path)
        assert [*server.files(name)] == ["run/lock"]  # it has written nothing
        assert server.objects[name]["run/lock"].generation > generation
    assert not workdir.is_locked(path)
    assert server.files(name) == {}
    with workdir.locked(path):  # at once
        pass


@needs_gcs
def test_one_of_many_takes_over_a_lock_that_was_left_behind(bucket, monkeypatch):
    server, name, url = bucket
    fewer_seconds(monkeypatch, lease=1.0, renew=0.1)
    files.write_file(files.as_path(f"{url}/run/lock"), b"{}")
    won, lost, release = [], [], threading.Event()

    def take():
        try:
            with workdir.locked(files.as_path(f"{url}/run")):
                won.append(time.monotonic())
                release.wait(20)
        except UserError:
            lost.append(time.monotonic())

    start = time.monotonic()
    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    while len(lost) < 5 and time.monotonic() < start + 20:
        time.sleep(0.05)
    release.set()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert won[0] - start >= 1.0
    assert server.files(name) == {}


@needs_gcs
def test_a_process_whose_lock_was_taken_ends_and_writes_nothing(bucket, monkeypatch):
    server, name, url = bucket
    fewer_seconds(monkeypatch, renew=0.1)
    ends, status = threading.Event(), set()

    def end(code):
        status.add(code)
        ends.set()

    monkeypatch.setattr(buckets.os, "_exit", end)
    with workdir.locked(files.as_path(f"{url}/run")):
        files.write_file(files.as_path(f"{url}/run/lock"), b"of another one")
        assert ends.wait(20)
    assert status == {2}
    assert server.files(name) == {"run/lock": b"of another one"}  # it is not removed


@needs_gcs
def test_a_write_whose_answer_was_lost_keeps_the_lock(bucket, monkeypatch):
    """The next attempt finds its own object in place of the old one."""
    server, name, url = bucket
    lock = buckets._Lock(files.as_path(f"{url}/run/lock"))
    lock.take()
    known, sent = lock._generation, lock.renewed
    real = storage.Blob.upload_from_string

    def lost(*args, **kwargs):
        real(*args, **kwargs)
        raise ConnectionError("the answer")

    with monkeypatch.context() as patch:
        patch.setattr(storage.Blob, "upload_from_string", lost)
        with pytest.raises(ConnectionError):
            lock._write(known)
    assert (lock._generation, lock.renewed) == (known, sent)
    assert server.objects[name]["run/lock"].generation > known
    assert lock._write(known)
    assert lock._generation == server.objects[name]["run/lock"].generation
    assert lock.renewed > sent


@needs_gcs
def test_nothing_is_written_while_the_lock_cannot_be_renewed(bucket, monkeypatch):
    """Another process may have taken it, once it was not renewed for long enough."""
    server, name, url = bucket
    fewer_seconds(monkeypatch, lease=2.0, renew=0.1)
    file = files.as_path(f"{url}/run/file")
    with workdir.locked(files.as_path(f"{url}/run")):
        files.write_file(file, b"before")
        server.silent = "run/lock"
        time.sleep(1.5)
        with pytest.raises(OSError, match=r"the bucket of .*/run does not answer"):
            files.write_file(file, b"during")
        server.silent = None
        time.sleep(0.5)
        assert server.files(name)["run/file"] == b"before"
        files.write_file(file, b"after")
    assert server.files(name) == {"run/file": b"after"}


# --- Several hosts ------------------------------------------------------------------

HOST = """
from gan_jax import cli, train
cli.run(train.main)
"""


@needs_gcs
@pytest.mark.slow
def test_two_hosts_train_in_a_bucket(bucket, tmp_path, spawn, free_port):
    server, name, url = bucket
    keys = {**SHRUNK, **SHORT}
    code = f"import os\nos.environ.update({server.env!r})\n{HOST}"

    def both(workdir):
        args = ["train", "--config=configs/ring.py", f"--workdir={workdir}"]
        args += [f"--config.{key}={value}" for key, value in keys.items()]
        args += [f"--coordinator=127.0.0.1:{free_port}", "--num_processes=2"]
        hosts = [spawn(code, *args, f"--process_id={i}", devices=2) for i in range(2)]
        assert [host.wait() for host in hosts] == [0, 0], hosts[0].err + hosts[1].err

    keys["num_steps"] = 3
    both(f"{url}/run")
    keys["num_steps"] = 6
    both(f"{url}/run")
    both(tmp_path / "run")
    assert_same_run(tmp_path / "run", files.as_path(f"{url}/run"))
    assert any("ocdbt.process_1" in x for x in server.files(name))


# --- Bad input ----------------------------------------------------------------------


@needs_gcs
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://", "gs://: name the bucket, as in gs://BUCKET/FOLDER"),
        ("gs://absent/run", "cannot be read: NotFound: 404"),
        ("gs://absent/a#1", "the name of a folder must not contain '#'"),
        ("gs://absent/a[1]", "the name of a folder must not contain '['"),
    ],
)
def test_bad_urls_are_one_line(served, forks, url, message):
    args = ("--config=configs/ring.py", f"--workdir={url}")
    for module, flags in (("train", args), ("sample", args[1:])):
        status, out, err = forks(module, *flags, **served.env)
        assert (status, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1


@needs_gcs
def test_a_bucket_that_does_not_answer_is_one_line(bucket, forks):
    """Each line says what cannot be read or written; nothing has changed."""
    server, name, url = bucket
    path = files.as_path(f"{url}/run")
    train(config_of("ring", **SHORT), path)
    before, history = server.files(name), workdir.read(path)
    keys = [f"--config.{key}={value}" for key, value in (SHRUNK | SHORT).items()]
    again = ("train", "--config=configs/ring.py", f"--workdir={url}/run", *keys)
    to_a_file = ("sample", f"--workdir={url}/run", f"--out={url}/a.png")
    into_itself = ("sample", f"--workdir={url}/run")
    refused = "cannot be written: the account lacks storage.objects.create"
    for part, failing, command, message in (
        ("run", False, again, f"workdir {url}/run cannot be read: Forbidden: 403"),
        ("metrics", False, again, f"{url}/run/metrics.jsonl cannot be read now: OSErr"),
        ("config", False, again, f"{url}/run cannot be read now: OSError: Forbidden"),
        ("checkp", False, again, f"{url}/run/checkpoints cannot be read now: OSError"),
        ("run", False, to_a_file, f"{url}/run cannot be read now: OSError: Forbidden"),
        ("config", False, to_a_file, f"{url}/run/config.json cannot be read now: OSE"),
        ("checkp", False, to_a_file, f"{url}/run/checkpoints cannot be read now: OSE"),
        (None, True, again, f"workdir {url}/run {refused}"),
        (None, True, to_a_file, f"--out {url} {refused}"),
        (None, True, into_itself, f"give --out=FILE.png; {url}/run/drawn {refused}"),
    ):
        server.silent, server.failing = part, failing
        status, out, err = forks(*command, **server.env)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith(f"error: {message}"), err
    server.silent, server.failing = "config.json", False
    with pytest.raises(buckets.NoAnswer):
        workdir.record(path, history, {})
    assert {k: x for k, x in server.files(name).items() if k != "run/lock"} == before


def test_without_the_packages_it_says_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"gs://a/b: .* pip install 'gan_jax\[gcs\]'"):
        files.as_path("gs://a/b")
