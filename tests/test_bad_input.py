"""Bad input: one line on stderr, exit status 2, nothing written."""
# ruff: noqa: E501 (a row is a line)

import json
import os
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax.run import workdir

ROOT = Path(__file__).parents[1]
RING = "--config=configs/ring.py"
MNIST = ("--config=configs/mnist.py", "--config.data.source=packaged")
FOLDER = "--config=configs/folder.py"

MINE = """
import jax.numpy as jnp
import numpy as np
from gan_jax import Classes, Loss, Points, penalty
from gan_jax.data.source import InMemory, Info
import gan_jax.models.mlp as nets

scalar = Loss(d=lambda r, f: (f - r).mean(), g=lambda f, r: -f)
only_d = Loss(d=lambda r, f: f - r, g=None)
three = Loss(d=lambda r, f, x: f, g=lambda f, r: -f)
no_loss = 3

def raising(config):
    return 1 / 0

def total(critic, real, fake, key):
    return critic(real).sum()

def stuck(gan, state, batch):
    return state.step, {}

def only_state(gan, state, batch):
    return state

@penalty(initial={"mean": 0.0})
def swollen(critic, real, fake, key, *, memory):
    return critic(real), {"mean": real}

@penalty(initial="nothing")
def spelled(critic, real, fake, key, *, memory):
    return critic(real), memory

def mistyped(critic, real, fake, key, *, reel_logits):
    return reel_logits

def points(shape, condition=None, conditions=None):
    about = {"name": "x", "num_examples": 300, "fingerprint": ""}
    info = Info(example=Points((2,)), condition=condition, **about)
    return InMemory(info, np.zeros(shape, np.float32), conditions)

def crooked(config):
    return points((300, 3))

def untold(config):
    return points((300, 2), Classes(3))

def half_told(config):
    return points((300, 2), Classes(3), np.zeros((300, 2), np.int32))

class model:
    Generator = nets.Generator

class narrow:
    Discriminator = nets.Discriminator

    class Generator(nets.Generator):
        def __call__(self, x, condition=None, *, train):
            return super().__call__(x, condition, train=train)[:, :1]

class wrong:
    Generator = nets.Generator

    class Discriminator(nets.Discriminator):
        def __call__(self, x, condition=None, *, train):
            return super().__call__(x, condition, train=train).sum()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Makes the files that the rows below name."""
    root = tmp_path_factory.mktemp("files")
    (root / "mine.py").write_text(MINE)
    (root / "broken.py").write_text("import nothing_of_that_name")
    (root / "empty.py").write_text("seed = 1")
    (root / "syntax.py").write_text("def get_config(:")
    (root / "number.py").write_text("def get_config():\n  return 3")
    (root / "bare.py").write_text(
        "import ml_collections\n"
        "def get_config():\n  return ml_collections.ConfigDict({'seed': 0})"
    )
    (root / "file").write_text("")
    (root / "file\n").write_text("")
    (root / "no_images").mkdir()
    for name in ("cut", "grey"):
        (root / name).mkdir()
        for i in range(20):
            pixels = np.random.default_rng(i).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    (root / "bomb").mkdir()
    bomb = root / "bomb" / "a.png"
    Image.new("1", (9000, 9000)).save(bomb)  # some kilobytes
    (root / "pipe" / "a").mkdir(parents=True)
    os.mkfifo(root / "pipe" / "a" / "x.png")
    (root / "circle" / "a").mkdir(parents=True)
    (root / "circle" / "a" / "again").symlink_to("..")
    for i in range(7, 11):
        cut = root / "cut" / f"{i:02d}.png"
        cut.write_bytes(cut.read_bytes()[:60])
    return root


# The arguments ({} is a folder with the files above), and what the line must contain.
ROWS = [
    ((RING, "--config.loss=hnge"), r"unknown loss 'hnge'; did you mean 'hinge'\? \(valid: dual_contrastive, f_gan, hinge, least_squares, minimax, non_saturating, relativistic, relativistic_average, wasserstein\)"),
    ((RING, "--config.penalties=r3"), r"unknown penalty 'r3'; did you mean 'r\d'\? \(valid: auxiliary_classifier, .*, r1, r2, reconstruction, weight_clipping, zcr, "),
    ((RING, "--config.penalties=r1(wait=3)"), r"unknown setting of penalty 'r1' 'wait'.*weight"),
    ((RING, "--config.penalties=r1(every=0)"), r"'r1': every must be a whole number"),
    ((RING, "--config.penalties=r1(weight=-1)"), r"'r1': weight must be a number"),
    ((RING, "--config.penalties=r1,r1(weight=2)"), r"penalty 'r1' is given twice"),
    ((RING, "--config.penalties=r1(3"), r"cannot read 'r1\(3'"),
    ((RING, "--config.model=mpl"), r"unknown model 'mpl'; did you mean 'mlp'\? \(valid: .*, dcgan, mlp, .*, resnet"),
    ((RING, "--config.model=dcgan"), r"dcgan makes images .*--config.model=mlp"),
    ((RING, "--config.generator=depht=3"), r"unknown option of mlp.Generator 'depht'; did you mean 'depth'"),
    ((RING, "--config.generator=output='step'"), r"unknown output of mlp.Generator 'step'"),
    ((RING, "--config.optimizer=adma(learning_rate=1e-3)"), r"unknown optimizer 'adma'; did you mean 'adam\w*'\?"),
    ((RING, "--config.optimizer=adam(b3=1, learning_rate=1)"), r"unknown option of optimizer 'adam' 'b3'; did you mean 'b\d'"),
    ((RING, "--config.optimizer=adam"), r"'adam': give it a learning_rate"),
    ((RING, "--config.schedule=cosin"), r"unknown schedule 'cosin'; did you mean 'cosine'"),
    ((RING, "--config.latent=gauss"), r"unknown latent 'gauss'"),
    ((RING, "--config.data.source=toys"), r"unknown data source 'toys'; did you mean 'toy'\? \(valid: archive, folder, hf, .*, tfds, toy, "),
    ((RING, "--config.data.name=rings"), r"unknown toy density 'rings'; did you mean 'ring'"),
    ((*MNIST, "--config.data.name=mnits"), r"unknown packaged data set 'mnits'; did you mean 'mnist'"),
    ((MNIST[0], "--config.data.name=mnits"), r"unknown TFDS data set 'mnits'; did you mean 'mnist'"),
    ((RING, "--config.sed=3"), r"unknown config key 'sed'; did you mean 'seed'\? \(valid: "),
    ((RING, "--config.data.nmae=3"), r"unknown config key 'data.nmae'; did you mean 'data.name'\?"),
    ((RING, "--config.learning_rate=1e-3"), r"unknown config key 'learning_rate': it is an argument of the optimizer: --config.optimizer='adam\(learning_rate=...\)'"),
    ((RING, "--num_steps=100"), r"unknown flag --num_steps: did you mean --config.num_steps\?"),
    ((RING, "--config.conditional=maybe"), r"--config.conditional=maybe: conditional must be True or False"),
    ((RING, "--config.ema_decay=x"), r"--config.ema_decay=x: ema_decay must be a number"),
    ((RING, "--config.seed=many"), r"--config.seed=many: seed must be a whole number"),
    ((RING, "--confg=x"), r"Unknown command line flag 'confg'. Did you mean: config"),
    ((RING, "ring"), r"unexpected argument 'ring'"),
    ((RING, "--config.seed=4294967296"), r"seed is 4294967296: it must lie in"),
    ((RING, "--config.replicas=0"), r"replicas is 0: it must be at least 1"),
    ((RING, "--config.seed=4294967295", "--config.replicas=2"), r"seed \+ replicas - 1 is 4294967296: it must lie in"),
    ((RING, "--config.optimizer=lbfgs(learning_rate=1.0)"), r"the optimizer fails: TypeError"),
    ((RING, "--config.generator=name='x'"), r"unknown option of mlp.Generator 'name'"),
    ((RING, "--config.generator=output=3"), r"unknown output of mlp.Generator '3'"),
    ((RING, "--config.loss=a\nb\x1b[2J\u2028"), r"cannot read 'a\\nb\\x1b\[2J\\u2028'"),
    ((RING, "--workdir={}/file\n"), r"workdir \S+/file\\n: \S+/file\\n is a file"),
    ((RING, "--config.generator=" + "(" * 10**5), r"cannot read '\(\(.* \.\.\. .*\(': write key=value"),
    ((RING, "--config.generator=depth=1)+f(depth=2"), r"cannot read 'depth=1\)\+f\(depth=2': write key=value"),
    ((RING, "--config.generator=depth=2000"), r"depth is 2000: it must be at most 1000"),
    ((RING, "--config.penalties=r1" + " " * 10**5 + "r2"), r"cannot read 'r1 "),
    ((RING, "--config.optimizer=adam(learning_rate=1, mu_dtype='x')"), r"optimizer .* fails: TypeError: "),
    ((RING, "--config.loss=.hinge"), r"loss '.hinge': write NAME, file.py:NAME"),
    ((RING, "--config.data.source={}/empty.py"), r"data source \S+ does not define load"),
    ((RING, "--config.data.source={}/mine.py:raising"), r"data source \S+ fails: ZeroDivisionError"),
    ((RING, "--config.penalties={}/mine.py:no_loss"), r"no_loss' is no function"),
    (("--config={}/bare.py",), r"the config lacks accumulate, .*gan_jax.config.default\(\)"),
    ((RING, "--config.batch_size=0"), r"batch_size is 0: it must be at least 1"),
    ((RING, "--config.num_steps=-5"), r"num_steps is -5: it must be at least 1"),
    ((RING, "--config.ema_decay=1.0"), r"ema_decay is 1.0"),
    ((RING, "--config.sample_every=99"), r"sample_every is 99: it must be a multiple of log_every \(250\); set --config.sample_every=250 or --config.log_every=1"),
    ((*MNIST, "--config.image_size=30"), r"dcgan cannot make 30x30 images: image_size must be 4 or 7 times a power of two"),
    ((*MNIST, "--config.batch_size=10001"), r"batch_size is 10001 and packaged:mnist\[train\] has only 10000 examples"),
    ((*MNIST, "--config.model=mlp", "--config.discriminator=", "--config.generator=output='linear'"), r"'linear', which is for points"),
    ((*MNIST, "--config.model=mlp"), r"unknown option of mlp.Discriminator 'norm' \(valid: .*\); the config has discriminator='norm=\"none\"': change it by --config.discriminator="),
    ((FOLDER,), r"needs --config.data.data_dir=DIR"),
    ((FOLDER, "--config.data.data_dir={}/nowhere"), r"there is no folder \S+/nowhere"),
    ((FOLDER, "--config.data.data_dir={}/no_images"), r"no_images holds no images"),
    ((FOLDER, "--config.data.data_dir={}/cut"), r"4 of the 20 images in \S+/cut cannot be read \(07.png: "),
    ((FOLDER, "--config.data.data_dir={}/bomb"), r"a.png: ValueError: 9000x9000 pixels, more than the 64 megapixels an image may have"),
    ((FOLDER, "--config.data.data_dir={}/pipe"), r"a/x.png: ValueError: it is not a file"),
    ((FOLDER, "--config.data.data_dir={}/circle"), r"circle holds no images"),
    ((FOLDER, "--config.data.data_dir={}/grey", "--config.image_size=16384"), r"16384x16384 pixels, more than the 64 megapixels"),
    ((*MNIST, "--config.image_size=1024"), r"image_size is 1024: the packaged sample can be enlarged to 655"),
    ((MNIST[0], "--config.data.name=mnist/../../x"), r"cannot read the TFDS data set 'mnist/../../x': write NAME"),
    ((MNIST[0], "--config.data.name=mnist/.."), r"cannot read the TFDS data set 'mnist/..': write NAME"),
    ((MNIST[0], "--config.data.name=mnist/config=../x"), r"cannot read the TFDS data set"),
    ((*MNIST, "--config.data.name=../../x"), r"unknown packaged data set '../../x'"),
    ((RING, "--config.data.name=/etc/passwd"), r"unknown toy density '/etc/passwd'"),
    ((FOLDER, "--config.data.data_dir={}/grey", "--config.data.channels=gray"), r"unknown data.channels 'gray'; did you mean 'grey'\? \(valid: auto, grey, rgb\)"),
    ((RING, "--config.data.source=archive", "--config.data.name=cifar"), r"unknown archive 'cifar'; did you mean 'cifar10\d?'"),
    (("--config=configs/cifar10.py", "--config.data.manual_dir={}/grey"), r"\S+/grey lacks cifar-10-binary.tar.gz of cifar10"),
    ((FOLDER, "--config.data.data_dir={}/grey"), r"batch_size is 64 and folder:grey has only 20 examples"),
    (("--config=configs/mri.py",), r"the source volumes needs --config.data.data_dir=DIR, a folder of NIfTI files or DICOM series \(python scripts/prepare_mri.py says"),
    (("--config=configs/mri.py", "--config.data.data_dir={}/grey"), r"\S+/grey holds no volumes \(.nii, .nii.gz, or DICOM files\)"),
    (("--config=configs/mri.py:64",), r"unknown variant of the config '64' \(valid: 128, 256\)"),
    (("--config=configs/folder.py:conditional", "--config.batch_size=4", "--config.data.data_dir={}/grey"), r"conditional is True and the data has no class labels"),
    ((RING, "--config.loss={}/none.py:a"), r"loss: there is no file \S+/none.py"),
    ((RING, "--config.loss={}/mine.py:tilted"), r"mine.py does not define 'tilted'"),
    ((RING, "--config.loss={}/mine.py:scalar"), r"the loss's d returns shape \(\) for a batch of 256; it must return \(256,\)"),
    ((RING, "--config.loss={}/mine.py:only_d"), r"has no function 'g'"),
    ((RING, "--config.loss={}/mine.py:no_loss"), r"has no function 'd'"),
    ((RING, "--config.loss={}/mine.py:three"), r"the loss's d takes \(r, f, x\), and is called as d\(real, fake\) \(\S+/mine.py:\d+\)"),
    ((RING, "--config.loss={}/broken.py:a"), r"broken.py fails on import: ModuleNotFoundError: "),
    ((RING, "--config.loss=no.such.module"), r"no module of that name can be imported"),
    ((RING, "--config.penalties={}/mine.py:total"), r"the penalty 'total' returns shape \(\)"),
    ((RING, "--config.model={}/mine.py:model"), r"model: \S+/mine.py:model does not define 'Discriminator'$"),
    ((RING, "--config.model={}/mine.py:wrong"), r"the model's Discriminator returns shape \(\) for a batch of 256; it must return \(256,\), or \(256, \.\.\.\)"),
    ((RING, "--workdir={}/file"), r"workdir \S+/file: \S+/file is a file, not a folder"),
    ((RING, "--workdir={}/file/run"), r"workdir \S+/file/run: \S+/file is a file"),
    ((), r"give a config: --config=configs/mnist.py"),
    (("--config.seed=3",), r"give a config: --config=configs/mnist.py"),
    (("--config.width=0", "--config.seed", "3", "--config", "configs/ring.py"), r"width is 0"),
    (("--config=configs/none.py",), r"there is no config file configs/none.py"),
    (("--config=configs/mnist.py:big",), r"unknown variant of the config 'big' \(valid: conditional\)"),
    (("--config={}/empty.py",), r"empty.py: .*get_config"),
    (("--config={}/broken.py",), r"broken.py: .*nothing_of_that_name"),
    (("--config={}/syntax.py",), r"syntax.py: .*invalid syntax"),
    (("--config={}/number.py",), r"number.py: get_config\(\) must return"),
    ((RING, "--config.sharding=zero"), r"unknown sharding 'zero' \(valid: fsdp, replicated\)"),
    ((RING, "--config.guard.action=halt"), r"unknown guard.action 'halt' \(valid: rollback, stop\)"),
    ((RING, "--config.guard.collapse=wran"), r"unknown guard.collapse 'wran'; did you mean 'warn'"),
    ((RING, "--config.guard.patience=0"), r"guard.patience is 0: it must be at least 1"),
    ((RING, "--config.guard.rollbacks=-1"), r"guard.rollbacks is -1: it must not be negative"),
    ((RING, "--config.num_steps=2147483648"), r"num_steps is 2147483648: it must be at least 1 and below 2\*\*31"),
    ((RING, "--config.num_steps=2147483647", "--config.d_updates=2"), r"num_steps \* d_updates is 4294967294"),
    ((RING, "--config.keep_checkpoints=0"), r"keep_checkpoints is 0: it must be at least 1"),
    ((RING, "--coordinator=host:1"), r"give all of --coordinator=HOST:PORT, --num_processes=N and --process_id=I"),
    ((RING, "--num_processes=2"), r"give all of --coordinator"),
    ((RING, "--process_id=1"), r"give all of --coordinator"),
    ((RING, "--coordinator=host", "--num_processes=2", "--process_id=0"), r"--coordinator=host: it must be HOST:PORT"),
    ((RING, "--coordinator=host:1", "--num_processes=2", "--process_id=2"), r"--process_id=2: it must lie in \[0, 2\)"),
    ((RING, "--num_processes=two"), r"num_processes"),
    ((RING, "--workdir=s3://bucket/run"), r"workdir s3:/bucket/run: it must be in the file system, or in a bucket"),
    (("--replay={}/nowhere",), r"nowhere is not a run: there is no \S+config.json"),
    (("--replay={}/no_images",), r"is not a run: there is no"),
    ((RING, "--config.loss=non_saturating(a=1)"), r"the loss 'non_saturating' has no settings"),
    ((RING, "--config.loss=least_squares(d=1)"), r"unknown option of loss 'least_squares' 'd'"),
    ((RING, "--config.loss=hinge, label_smoothing"), r"label_smoothing needs a loss with labels"),
    ((RING, "--config.loss=label_smoothing"), r"'label_smoothing' changes a loss: name one before it"),
    ((RING, "--config.loss="), r"there is no loss: name one"),
    ((RING, "--config.penalties=auxiliary_classifier"), r"'auxiliary_classifier' needs class labels: set --config.conditional=True"),
    ((RING, "--config.conditional=True", "--config.penalties=auxiliary_classifier"), r"does not sow 'class_logits'.*conditioning"),
    ((RING, "--config.penalties=lecam(decay=2)"), r"lecam: decay must be "),
    ((RING, "--config.penalties=weight_clipping(limit=-1)"), r"weight_clipping: limit must be "),
    ((RING, "--config.pack=3"), r"batch_size is 256: it must be a multiple of pack \(3\) times accumulate \(1\)"),
    ((RING, "--config.accumulate=5"), r"it must be a multiple of pack \(1\) times accumulate \(5\)"),
    ((RING, "--config.conditional=True", "--config.pack=2"), r"pack needs an unconditional GAN"),
    ((RING, "--config.replay=8"), r"replay is 8: it must be 0, or at least batch_size \(256\)"),
    ((RING, "--config.augment=ada"), r"augmentation 'ada' is for images, and these are points"),
    ((RING, "--config.augment=instance_noise(sigma=1)"), r"unknown setting of augmentation 'instance_noise' 'sigma'"),
    ((RING, "--config.discriminator=conditioning='projection'"), r"conditioning='projection' needs class labels"),
    ((RING, "--config.generator=dropout=1.5"), r"dropout is 1.5"),
    ((RING, "--config.discriminator=minibatch_std=7"), r"minibatch_std"),
    ((*MNIST, "--config.model=resnet", "--config.image_size=32", "--config.discriminator=", "--config.generator=attention=7"), r"attention is 7"),
    ((RING, "--config.step=extragradient", "--config.d_updates=2"), r"d_updates must be 1, and is 2"),
    ((RING, "--config.step=unrolled"), r"for adam, add eps_root=1e-8"),
    ((RING, "--config.step={}/mine.py:stuck"), r"the step returns another kind of state"),
    ((RING, "--config.model={}/mine.py:narrow"), r"the model's Generator returns shape \(256, 1\) for a batch of 256; it must return \(256, 2\)"),
    ((RING, "--config.data.source={}/mine.py:crooked"), r"x: examples has shape \(300, 3\) .*; Points\(.*\) is stored with shape \(300, 2\)"),
    ((RING, "--config.data.source={}/mine.py:untold"), r"condition"),
    ((RING, "--config.data.source={}/mine.py:half_told"), r"x: conditions has shape \(300, 2\) .*; Classes\(.*\) is stored with shape \(300,\)"),
    ((RING, "--config.latent_size=0"), r"latent_size is 0: without latents and without a condition"),
    ((RING, "--config.precision=float16"), r"unknown precision 'float16'; did you mean 'bfloat16'\? \(valid: bfloat16, float32\)"),
    ((RING, "--config.schedule=linear(warmup=-1)"), r"warmup must be a whole number below num_steps"),
    ((RING, "--config.ema_halflife=-1.0"), r"ema_halflife is -1.0: it must be a number from 0 on"),
    ((RING, "--config.step=unrolled(k=-1)", "--config.optimizer=sgd(learning_rate=1.0)"), r"unrolled\(k=-1\): k must be a whole number"),
    ((RING, "--config.step=unrolled", "--config.optimizer=lbfgs(learning_rate=1.0)"), r"the optimizer fails: TypeError"),
    ((RING, "--config.step={}/mine.py:only_state"), r"the step must return the new state and the metrics"),
    ((RING, "--config.penalties=builtins.max"), r"penalty 'builtins.max' is no Python function"),
    ((RING, "--config.penalties=r1(weight=1, weight=2)"), r"cannot read 'weight=1, weight=2'"),
    ((RING, "--config.penalties={}/mine.py:swollen"), r"'swollen' returns another kind of memory than it gets"),
    ((RING, "--config.penalties={}/mine.py:spelled"), r"initial= of the penalty 'spelled' fails: ValueError: "),
    ((RING, "--config.penalties={}/mine.py:mistyped"), r"penalty '\S+:mistyped' asks for an unknown 'reel_logits'; did you mean 'real_logits'"),
    ((RING, "--config.augment=instance_noise(until=0)"), r"instance_noise: until must be a number in \(0, 3e\+38\), not 0"),
    ((RING, "--config.loss=least_squares(b=1e300)"), r"least_squares\(a=0.0, b=1e\+300, c=1.0\)"),
    ((RING, "--config.loss=non_saturating, noisy_labels(real=(3, 4))"), r"noisy_labels"),
    ((RING, "--config.conditional=True", "--config.discriminator=conditioning='auxiliary'"), r"a classifier that nothing trains: add --config.penalties=auxiliary_classifier"),
    # Of a workdir ({run} is a folder with runs of the ring that were harmed).
    ((RING, "--workdir={run}/json"), r"json/config.json is damaged"),
    ((RING, "--workdir={run}/wild"), r"wild/config.json is damaged"),
    ((RING, "--workdir={run}/log", "--config.num_steps=4"), r"metrics.jsonl is damaged: line 1 is no record of a step; repair or remove"),
    ((RING, "--workdir={run}/format", "--config.num_steps=4"), r"step 2 in \S+ is of format 99, and this version reads \d"),
    ((RING, "--workdir={run}/unnamed", "--config.num_steps=4"), r"step 2 in \S+ is damaged \(it does not say what it holds: KeyError"),
    ((RING, "--workdir={run}/damaged", "--config.num_steps=4"), r"the checkpoint of step 2 in \S+ is damaged"),
    ((RING, "--workdir={run}/locked", "--config.num_steps=4"), r"another process trains in workdir \S+/locked: wait for it or stop it"),
    (("--replay={run}/dump",), r"the dump \S+ is damaged"),
]  # fmt: skip


def snapshot(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def assert_refused(answer, message):
    status, out, err = answer
    assert (status, out) == (2, ""), err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert re.search(message, err), err


@pytest.fixture(scope="module")
def run_of_ring(forks, tmp_path_factory):
    path = tmp_path_factory.mktemp("ring") / "run"
    short = "--config.num_steps=2"
    assert forks("train", RING, short, f"--workdir={path}")[0] == 0
    return path


@pytest.fixture(scope="module")
def harmed(run_of_ring, tmp_path_factory):
    """Copies of a run, each harmed in its own way."""
    root = tmp_path_factory.mktemp("harmed")
    names = ("json", "wild", "log", "format", "unnamed", "damaged", "locked", "dump")
    for name in names:
        shutil.copytree(run_of_ring, root / name)
    (root / "json" / "config.json").write_text("{")
    (root / "wild" / "config.json").write_text('{"config": [], "data": 3}')
    (root / "log" / "metrics.jsonl").write_text("no record\n")
    for name in ("format", "unnamed"):
        file = root / name / "checkpoints" / "2" / "_CHECKPOINT_METADATA"
        content = json.loads(file.read_text())
        about = content["custom_metadata"]
        text = json.dumps(json.loads(about["text"]) | {"format": 99})
        about |= {"text": text, "checksum": zlib.crc32(text.encode())}
        if name == "unnamed":
            about.clear()
        file.write_text(json.dumps(content))
    for file in (root / "damaged" / "checkpoints" / "2").rglob("*"):
        if file.is_file() and "d" in file.parts:
            file.write_bytes(file.read_bytes()[:-9])
    (root / "dump" / "arrays.npz").write_bytes(b"PK")
    with workdir.locked(root / "locked"):
        yield root


@pytest.mark.parametrize(("args", "message"), ROWS, ids=lambda x: None)
def test_train_refuses(forks, files, args, message, request):
    folders = [files]
    if "{run}" in " ".join(args):
        folders.append(request.getfixturevalue("harmed"))
    args = [arg.replace("{}", str(files)) for arg in args]
    args = [arg.replace("{run}", str(folders[-1])) for arg in args]
    if not any(arg.startswith("--workdir") for arg in args):
        args.append(f"--workdir={files}/run")
    before = [snapshot(folder) for folder in folders]
    assert_refused(forks("train", *args), message)
    assert [snapshot(folder) for folder in folders] == before


@pytest.mark.parametrize(
    "override",
    ["loss=hnge", "penalties=r3", "model=mpl", "optimizer=sdg(learning_rate=1)"],
)
def test_names_are_checked_before_data_are_prepared(forks, idx_dir, tmp_path, override):
    answer = forks(
        "train",
        "--config=configs/mnist.py",
        f"--config.{override}",
        f"--config.data.manual_dir={idx_dir}",
        f"--config.data.data_dir={tmp_path}/tfds",
        f"--workdir={tmp_path}/run",
    )
    assert_refused(answer, "did you mean")
    assert not list(tmp_path.iterdir())


def test_a_damaged_config_json_is_refused(forks, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for module, args in (("train", [RING]), ("sample", [f"--out={tmp_path}/x.png"])):
        answer = forks(module, *args, f"--workdir={tmp_path}")
        assert_refused(answer, "config.json is damaged")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config.seed=1"], r"\(seed: 0 -> 1\)"),
        (["--config.replicas=2"], r"\(replicas: 1 -> 2\)"),
        (["--config.loss=hinge"], r"\(loss: 'non_saturating' -> 'hinge'\)"),
        (["--config.data.name=grid"], r"data.name: 'ring' -> 'grid'"),
    ],
)
def test_a_workdir_with_another_config_is_refused(forks, run_of_ring, args, message):
    before = snapshot(run_of_ring)
    answer = forks("train", RING, *args, f"--workdir={run_of_ring}")
    assert_refused(answer, f"holds a run with another config .*{message}")
    assert_refused(answer, r"--override_config")
    assert snapshot(run_of_ring) == before


def test_a_checkpoint_of_another_network_is_refused(forks, run_of_ring):
    before = snapshot(run_of_ring)
    answer = forks(
        "train",
        RING,
        "--config.width=9",
        "--config.num_steps=4",
        "--override_config",
        f"--workdir={run_of_ring}",
    )
    assert_refused(answer, "does not fit this config")
    assert snapshot(run_of_ring) == before


def test_override_and_length_are_let_through(forks, run_of_ring, tmp_path):
    path = shutil.copytree(run_of_ring, tmp_path / "run")
    args = ("--config.loss=hinge", "--config.num_steps=3", "--override_config")
    status, _, err = forks("train", RING, f"--workdir={path}", *args)
    assert status == 0, err
    written = json.loads((path / "config.json").read_text())["config"]
    assert (written["loss"], written["num_steps"]) == ("hinge", 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workdir_that_cannot_be_written_is_refused(forks, tmp_path):
    tmp_path.chmod(0o500)
    answer = forks("train", RING, f"--workdir={tmp_path}/run")
    assert_refused(answer, r"is not writable")


def test_a_workdir_is_asked_whether_it_can_be_written(tmp_path, monkeypatch):
    from gan_jax.errors import UserError
    from gan_jax.run import workdir

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"is not writable"):
        workdir.check(tmp_path / "run")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], r"give a run: --workdir=DIR"),
        (["--workdir={}"], r"is not a run: there is no \S+config.json"),
        (
            ["--workdir={run}", "--num=100000000"],
            r"--num=100000000: it must lie in \[1, 1000000\]",
        ),
        (["--workdir={run}", "--model={}/mine.py"], r"mine.py: the run's model is mlp"),
        (["--workdir={run}", "--num=0"], r"--num=0: it must lie in \[1, "),
        (["--workdir={run}", "--truncation=0"], r"--truncation=0.0: it must lie in"),
        (["--workdir={run}", "--truncation=1.5"], r"--truncation=1.5"),
        (["--workdir={run}", "--step=77"], r"no checkpoint of step 77 .*\(there: 2"),
        (["--workdir={run}", "--replica=1"], r"--replica=1: .* has only replica 0"),
        (["--workdir={run}", "--replica=-1"], r"--replica=-1: .* has only replica 0"),
        (["--workdir={run}", "--labels=1"], r"--labels needs a conditional run"),
        (["--workdir={run}", "--interpolate"], r"this run makes points"),
        (["--workdir={run}", "--condition=x.npy"], r"x.npy: this run has no condition"),
        (["--workdir={run}", "--video={}/x.gif"], r"--video is of images; this run m"),
        (["--workdir={run}", "--captions"], r"--captions is of images; this run makes"),
        (["--workdir={run}", "--video={}/x.mp4"], r"x.mp4: name the file \*.webp or "),
        (["--workdir={run}", "--frames=9"], r"--frames is of a video: give --video="),
        (["--workdir={run}", "--seeds=3-"], r"--seeds=3-: give numbers below 2\*\*32"),
        (["--workdir={run}", "--seeds=3", "--seed=4"], r"--seeds and --seed exclude "),
        (["--workdir={run}", "--outdir={}/file"], r"/file is a file"),
        (["--workdir={run}", "--out={}/x.jpg"], r"x.jpg: name the file \*.png"),
        (["--workdir={run}", "--out={}/file/x.png"], r"/file is a file"),
    ],
)
def test_sample_refuses(forks, files, run_of_ring, args, message):
    args = [
        arg.replace("{}", str(files)).replace("{run}", str(run_of_ring)) for arg in args
    ]
    if not any(arg.startswith(("--out", "--video")) for arg in args):
        args.append(f"--out={files}/grid.png")
    before = snapshot(files)
    assert_refused(forks("sample", *args), message)
    assert snapshot(files) == before
