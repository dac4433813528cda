import os
import pickle
import random
import zipfile

import numpy as np
import pytest
from torch_files import (
    ORDERED_DICT,
    WRITERS,
    numbers,
    state,
    storage,
    string,
    tensor,
    write_legacy,
    write_zip,
)

from gan_jax.errors import UserError
from gan_jax.metrics.weights import torch_file

SIX = np.arange(6, dtype="<f4")
DATA = {"0": SIX.tobytes()}
WHOLE = tensor(storage("0", 6), (2, 3), (3, 1))


@pytest.mark.parametrize("write", WRITERS)
def test_reads_tensors(write, tmp_path):
    stored = storage("0", 6)
    views = {
        "whole": WHOLE,
        "transposed": tensor(stored, (3, 2), (1, 3)),
        "window": tensor(stored, (2,), (2,), offset=1),
        "scalar": tensor(stored, (), (), offset=5),
        "empty": tensor(stored, (0, 3), (3, 1)),
    }
    found = torch_file.read(write(tmp_path / "w.pth", state(views), DATA))
    expected = {
        "whole": SIX.reshape(2, 3),
        "transposed": SIX.reshape(2, 3).T,
        "window": SIX[[1, 3]],
        "scalar": SIX[5],
        "empty": np.zeros((0, 3), "f4"),
    }
    assert list(found) == list(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x, strict=True)


def test_reads_other_types(tmp_path):
    longs, halves = np.array([-1, 2**40], "<i8"), np.array([0.5], "<f2")
    kinds = {
        "steps": tensor(storage("0", 2, "Long"), (2,), (1,)),
        "half": tensor(storage("1", 1, "Half"), (1,), (1,)),
    }
    data = {"0": longs.tobytes(), "1": halves.tobytes()}
    found = torch_file.read(write_zip(tmp_path / "w", state(kinds), data))
    np.testing.assert_array_equal(found["steps"], longs, strict=True)
    np.testing.assert_array_equal(found["half"], halves, strict=True)


def test_parameters_and_versions_of_modules(tmp_path):
    """A `state_dict` has attributes, and a parameter is a tensor."""
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + WHOLE + b"\x89"
    items = string("w") + parameter + ORDERED_DICT + b"tR"
    about = b"}" + string("_metadata") + ORDERED_DICT + b"s"
    made = b"\x80\x02" + ORDERED_DICT + b"(" + items + b"u" + about + b"b."
    found = torch_file.read(write_zip(tmp_path / "w", made, DATA))
    np.testing.assert_array_equal(found["w"], SIX.reshape(2, 3), strict=True)


class Calls:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def malicious(command):
    """Yields pickles that run a command, if they are loaded."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.dumps({"w": Calls(command)}, protocol)
    call = b"cos\nsystem\n(" + string(command)
    yield state({"w": call + b"tR"})
    yield b"\x80\x02" + call + b"tR0" + state({"w": WHOLE})[2:]
    yield b"(" + string(command) + b"ios\nsystem\n."  # INST
    yield b"(cos\nsystem\n" + string(command) + b"o."  # OBJ
    yield b"\x80\x02" + call + b"t\x81."  # NEWOBJ
    yield b"\x80\x04" + string("os") + string("system") + b"\x93(" + string("") + b"tR."
    yield b"\x80\x02\x82\x01."  # EXT1
    yield b"\x80\x02" + string("os.system") + numbers(()) + b"R."
    yield b"\x80\x02cbuiltins\neval\n(" + string(f"__import__('os').{command}") + b"tR."


@pytest.mark.parametrize("write", WRITERS)
def test_malicious_files_run_nothing(write, tmp_path):
    mark = tmp_path / "was run"
    pickles = list(malicious(f"touch '{mark}'"))
    pickle.loads(pickles[0])
    assert mark.exists(), "the test could not fail"
    mark.unlink()
    for made in pickles:
        path = write(tmp_path / "w.pth", made, DATA)
        with pytest.raises(UserError, match="is refused: it holds"):
            torch_file.read(path)
        assert not mark.exists()


NO_TENSORS = {
    "the name 'os.system'": state({"w": b"cos\nsystem\n(" + string("true") + b"tR"}),
    "the name 'torch.load'": state({"w": b"ctorch\nload\n" + numbers(()) + b"R"}),
    "the pickle opcode STACK_GLOBAL": b"\x80\x04" + string("os") * 2 + b"\x93.",
    "the pickle opcode INST": b"(ios\nsystem\n.",
    "'epoch', which is no tensor": state({"w": WHOLE, "epoch": b"K\x01"}),
    "'model', which is no tensor": state({"model": ORDERED_DICT}),
    "the type tensor,": b"\x80\x02" + WHOLE + b".",
    "the type int,": b"\x80\x02K\x01.",
    "a dict with a key that is a tuple": b"\x80\x02})K\x01s.",
    "a BUILD of what is no dict": b"\x80\x02" + WHOLE + b"}b.",
    "a SETITEM of what is no dict": b"\x80\x02]K\x01K\x01s.",
    "an APPEND to what is no list": b"\x80\x02}K\x01a.",
    "a call of what is no function": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "a call without a tuple of arguments": b"\x80\x02ccollections\nOrderedDict\n]R.",
    "a storage of an unknown kind": state(
        {"w": tensor(storage("0", 6, view=string("v")), (6,), (1,))}
    ),
    "a persistent id that is no storage": b"\x80\x02" + numbers(range(5)) + b"Q.",
}


@pytest.mark.parametrize("holds", NO_TENSORS)
def test_other_content_is_refused(holds, tmp_path):
    path = write_zip(tmp_path / "w.pth", NO_TENSORS[holds], DATA)
    with pytest.raises(UserError, match=f"{path} is refused: it holds {holds}"):
        torch_file.read(path)


DAMAGED = {
    "reaches beyond its storage": (
        tensor(storage("0", 6), (2, 3), (6, 1)),
        tensor(storage("0", 6), (2,), (1,), offset=5),
        tensor(storage("0", 6), (2**20, 2**10), (0, 0)),  # gigabytes of a few bytes
    ),
    "a size is no number": (
        tensor(storage("0", 6), (-2,), (1,)),
        tensor(storage("0", -6), (2,), (1,)),
    ),
    "it is shorter than its tensors": (tensor(storage("0", 2**30), (2,), (1,)),),
    "a shape is no tuple": (tensor(storage("0", 6), [1] * 33, [1] * 33),),
    "a tensor without a storage": (tensor(b"N", (2,), (1,)),),
    "a storage of two kinds": (
        tensor(storage("0", 6), (2,), (1,)) + string("x") + storage("0", 5),
    ),
    "strides": (tensor(storage("0", 6), (2,), (1, 1)),),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("problem", DAMAGED)
def test_impossible_tensors(problem, write, tmp_path):
    told = "argument 2 is longer" if problem == "strides" else problem
    for made in DAMAGED[problem]:
        path = write(tmp_path / "w.pth", state({"w": made}), DATA)
        with pytest.raises(UserError, match=f"is damaged .*{told}"):
            torch_file.read(path)


def test_other_archives(tmp_path):
    path, made = tmp_path / "w.pth", state({"w": WHOLE})
    assert torch_file.read(write_zip(path, made, DATA, byteorder=b"little"))
    for message, how in {
        "compressed members": {"compression": zipfile.ZIP_DEFLATED},
        "not little-endian": {"byteorder": b"big"},
    }.items():
        with pytest.raises(UserError, match=message):
            torch_file.read(write_zip(path, made, DATA, **how))
    for data in ({}, {"0": b"\0" * 20}):
        with pytest.raises(UserError, match="is damaged"):
            torch_file.read(write_zip(path, made, data))


LEGACY_HEADERS = {
    "an unknown version": (b"M\xe9\x03.", b"M\xe8\x03."),
    "not little-endian": (b"\x88s.", b"\x89s."),
    "are not little": (b"}X\x0d\0\0\0little_endian\x88s.", b"K\x01."),
}


@pytest.mark.parametrize("message", LEGACY_HEADERS)
def test_other_headers(message, tmp_path):
    path = write_legacy(tmp_path / "w.pth", state({"w": WHOLE}), DATA)
    content = path.read_bytes()
    path.write_bytes(content.replace(*LEGACY_HEADERS[message]))
    assert path.read_bytes() != content
    with pytest.raises(UserError, match=f"is refused: .*{message}"):
        torch_file.read(path)


@pytest.mark.parametrize("write", WRITERS)
def test_any_damage_is_one_line(write, tmp_path):
    path, draw = tmp_path / "w.pth", random.Random(0)
    whole = write(path, state({"w": WHOLE}), DATA).read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(whole))] = draw.randrange(256)
        path.write_bytes(
            content[: draw.choice([len(whole), draw.randrange(len(whole))])]
        )
        found = read_or_message(path)
        assert isinstance(found, dict) or found.isprintable()


def read_or_message(path):
    try:
        return torch_file.read(path)
    except UserError as error:
        return str(error)
