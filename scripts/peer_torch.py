"""The PyTorch side of the speed comparison: the same GAN steps on the same machine.

    python scripts/peer_torch.py --workload dcgan28 --mode eager

It is written as a PyTorch user would write it, and needs torch alone. A step is one
discriminator and one generator update, each with fresh noise; the data are one resident
batch, so that only the training step is timed. Float32, Adam(2e-4, b1=0.5, b2=0.999),
non-saturating loss unless said:

    mlp_ring     2-128-128-1 MLPs on 8 Gaussians, batch 256, data drawn in the step
    dcgan28      28x28x1, batch 128, z 100, width 64, batch normalisation
    dcgan28_r1   the same with R1 (gamma 10) in every step, so second derivatives
    dcgan64      64x64x3, batch 32, the DCGAN paper's network at width 64
    sngan32      32x32x3, batch 32, SNGAN's ResNet (G 256, D 128), hinge loss
    pix2pix64    64x64x3, batch 8, U-Net and PatchGAN (34) of width 64, L1 of weight 100
    cyclegan64   64x64x3, batch 1, two ResNet-6 and two PatchGANs (34) of width 64,
                 least squares, cycle and identity losses, no pool of earlier images

The last two translate once in a step, for both updates, as their authors' code does.
Prints one JSON object. With `--serve` it waits for a number of steps on each line of
stdin, makes them, and prints their times, so that two programs can take turns.
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def mlp(n_in, n_out):
    return nn.Sequential(
        nn.Linear(n_in, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, n_out),
    )


class View(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(x.shape[0], *self.shape)


def dcgan28(f=64):
    g = nn.Sequential(
        nn.Linear(100, 7 * 7 * 2 * f, bias=False),
        View(2 * f, 7, 7),
        nn.BatchNorm2d(2 * f),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * f, f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(f),
        nn.ReLU(),
        nn.ConvTranspose2d(f, 1, 4, 2, 1),
        nn.Tanh(),
    )
    d = nn.Sequential(
        nn.Conv2d(1, f, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(f, 2 * f, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * f),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(7 * 7 * 2 * f, 1),
        View(),
    )
    return g, d


def dcgan64(f=64):
    def up(i, o):
        return [
            nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
        ]

    def down(i, o):
        return [
            nn.Conv2d(i, o, 4, 2, 1, bias=False),
            nn.BatchNorm2d(o),
            nn.LeakyReLU(0.2),
        ]

    g = nn.Sequential(
        nn.Linear(100, 4 * 4 * 8 * f, bias=False),
        View(8 * f, 4, 4),
        nn.BatchNorm2d(8 * f),
        nn.ReLU(),
        *up(8 * f, 4 * f),
        *up(4 * f, 2 * f),
        *up(2 * f, f),
        nn.ConvTranspose2d(f, 3, 4, 2, 1),
        nn.Tanh(),
    )
    d = nn.Sequential(
        nn.Conv2d(3, f, 4, 2, 1),
        nn.LeakyReLU(0.2),
        *down(f, 2 * f),
        *down(2 * f, 4 * f),
        *down(4 * f, 8 * f),
        nn.Flatten(),
        nn.Linear(4 * 4 * 8 * f, 1),
        View(),
    )
    return g, d


class GBlock(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.b1, self.b2 = nn.BatchNorm2d(i), nn.BatchNorm2d(o)
        self.c1, self.c2, self.sc = (
            nn.Conv2d(i, o, 3, 1, 1),
            nn.Conv2d(o, o, 3, 1, 1),
            nn.Conv2d(i, o, 1),
        )

    def forward(self, x):
        h = self.c1(F.interpolate(F.relu(self.b1(x)), scale_factor=2))
        return self.c2(F.relu(self.b2(h))) + self.sc(F.interpolate(x, scale_factor=2))


class DBlock(nn.Module):
    def __init__(self, i, o, down, first=False):
        super().__init__()
        self.c1, self.c2 = (
            spectral_norm(nn.Conv2d(i, o, 3, 1, 1)),
            spectral_norm(nn.Conv2d(o, o, 3, 1, 1)),
        )
        self.sc = spectral_norm(nn.Conv2d(i, o, 1)) if i != o or down else None
        self.down, self.first = down, first

    def forward(self, x):
        h = self.c2(F.relu(self.c1(x if self.first else F.relu(x))))
        s = x if self.sc is None else self.sc(x)
        return F.avg_pool2d(h, 2) + F.avg_pool2d(s, 2) if self.down else h + s


class SumPool(nn.Module):
    def forward(self, x):
        return F.relu(x).sum((2, 3))


def sngan32():
    g = nn.Sequential(
        nn.Linear(128, 4 * 4 * 256),
        View(256, 4, 4),
        GBlock(256, 256),
        GBlock(256, 256),
        GBlock(256, 256),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.Conv2d(256, 3, 3, 1, 1),
        nn.Tanh(),
    )
    d = nn.Sequential(
        DBlock(3, 128, True, first=True),
        DBlock(128, 128, True),
        DBlock(128, 128, False),
        DBlock(128, 128, False),
        SumPool(),
        spectral_norm(nn.Linear(128, 1)),
        View(),
    )
    return g, d


class UNet(nn.Module):
    def __init__(self, f=64, depth=6):
        super().__init__()
        sizes = [f * min(2**i, 8) for i in range(depth)]
        inner = depth - 1
        self.down, self.up = nn.ModuleList([nn.Conv2d(3, f, 4, 2, 1)]), nn.ModuleList()
        for i in range(1, depth):
            conv = nn.Conv2d(sizes[i - 1], sizes[i], 4, 2, 1, bias=i == inner)
            norm = [] if i == inner else [nn.BatchNorm2d(sizes[i])]
            self.down.append(nn.Sequential(nn.LeakyReLU(0.2), conv, *norm))
        for i in reversed(range(inner)):
            seen = sizes[i + 1] * (1 if i == inner - 1 else 2)
            conv = nn.ConvTranspose2d(seen, sizes[i], 4, 2, 1, bias=False)
            drop = [nn.Dropout(0.5)] if inner - i <= 3 else []
            norm = nn.BatchNorm2d(sizes[i])
            self.up.append(nn.Sequential(nn.ReLU(), conv, norm, *drop))
        last = nn.ConvTranspose2d(2 * f, 3, 4, 2, 1)
        self.last = nn.Sequential(nn.ReLU(), last, nn.Tanh())

    def forward(self, h):
        skips = []
        for down in self.down:
            h = down(h)
            skips.append(h)
        h = skips.pop()
        for up in self.up:
            h = torch.cat([up(h), skips.pop()], 1)
        return self.last(h)


def patches(channels, norm, f=64):
    return nn.Sequential(
        nn.Conv2d(channels, f, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(f, 2 * f, 4, 2, 1, bias=False),
        norm(2 * f),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * f, 4 * f, 4, 1, 1, bias=False),
        norm(4 * f),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * f, 1, 4, 1, 1),
    )


def pix2pix64():
    return UNet(), patches(6, nn.BatchNorm2d)


def instance_norm(channels):
    return nn.InstanceNorm2d(channels, affine=True)


class ResBlock(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(f, f, 3, bias=False),
            instance_norm(f),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(f, f, 3, bias=False),
            instance_norm(f),
        )

    def forward(self, x):
        return x + self.layers(x)


def translator(f=64, blocks=6):
    def down(f):
        conv = nn.Conv2d(f, 2 * f, 3, 2, 1, bias=False)
        return [conv, instance_norm(2 * f), nn.ReLU()]

    def up(f):
        conv = nn.ConvTranspose2d(2 * f, f, 3, 2, 1, output_padding=1, bias=False)
        return [conv, instance_norm(f), nn.ReLU()]

    return nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, f, 7, bias=False),
        instance_norm(f),
        nn.ReLU(),
        *down(f),
        *down(2 * f),
        *[ResBlock(4 * f) for _ in range(blocks)],
        *up(2 * f),
        *up(f),
        nn.ReflectionPad2d(3),
        nn.Conv2d(f, 3, 7),
        nn.Tanh(),
    )


def cyclegan64():
    """Returns both translators, to A and to B, and the discriminators of A and of B."""
    g, d = [translator() for _ in "AB"], [patches(3, instance_norm) for _ in "AB"]
    return nn.ModuleList(g), nn.ModuleList(d)


def ring(n):
    angle = torch.randint(0, 8, (n,)) * (6.283185307 / 8)
    return 2 * torch.stack([angle.cos(), angle.sin()], -1) + 0.02 * torch.randn(n, 2)


def from_noise(g, d, g_opt, d_opt, w, data):
    z_dim, r1 = w["z"], w.get("r1", 0.0)

    def step():
        real = data()
        with torch.no_grad():
            fake = g(torch.randn(w["batch"], z_dim))
        d_opt.zero_grad(set_to_none=True)
        if r1:
            real = real.detach().requires_grad_()
        lr, lf = d(real), d(fake)
        loss = (
            F.relu(1 - lr).mean() + F.relu(1 + lf).mean()
            if w.get("hinge")
            else F.softplus(-lr).mean() + F.softplus(lf).mean()
        )
        if r1:
            (grad,) = torch.autograd.grad(lr.sum(), real, create_graph=True)
            loss = loss + r1 / 2 * grad.square().sum((1, 2, 3)).mean()
        loss.backward()
        d_opt.step()
        g_opt.zero_grad(set_to_none=True)
        lf = d(g(torch.randn(w["batch"], z_dim)))
        (-lf.mean() if w.get("hinge") else F.softplus(-lf).mean()).backward()
        g_opt.step()

    return step


def from_pairs(g, d, g_opt, d_opt, w, data):
    """Translates a to b, as phillipi/pix2pix does."""

    def step():
        a, b = data(), data()
        fake = g(a)
        d.requires_grad_(True)
        d_opt.zero_grad(set_to_none=True)
        lf, lr = d(torch.cat([a, fake.detach()], 1)), d(torch.cat([a, b], 1))
        (F.softplus(-lr).mean() + F.softplus(lf).mean()).backward()
        d_opt.step()
        d.requires_grad_(False)
        g_opt.zero_grad(set_to_none=True)
        lf = d(torch.cat([a, fake], 1))
        (F.softplus(-lf).mean() + 100 * F.l1_loss(fake, b)).backward()
        g_opt.step()

    return step


def squared(logits, target):
    return F.mse_loss(logits, torch.full_like(logits, target))


def both_ways(g, d, g_opt, d_opt, w, data):
    """Translates a to b and b to a, as junyanz/pytorch-CycleGAN-and-pix2pix does."""
    (to_a, to_b), (d_a, d_b) = g, d

    def step():
        a, b = data(), data()
        fake_a, fake_b = to_a(b), to_b(a)
        d.requires_grad_(False)
        g_opt.zero_grad(set_to_none=True)
        loss = squared(d_a(fake_a), 1.0) + squared(d_b(fake_b), 1.0)
        loss += 10 * (F.l1_loss(to_a(fake_b), a) + F.l1_loss(to_b(fake_a), b))
        loss += 5 * (F.l1_loss(to_a(a), a) + F.l1_loss(to_b(b), b))
        loss.backward()
        g_opt.step()
        d.requires_grad_(True)
        d_opt.zero_grad(set_to_none=True)
        for judge, real, fake in ((d_a, a, fake_a), (d_b, b, fake_b)):
            loss = squared(judge(real), 1.0) + squared(judge(fake.detach()), 0.0)
            (loss / 2).backward()
        d_opt.step()

    return step


MODES = ("eager", "channels_last", "compile", "compile+channels_last")
WORKLOADS = {
    "mlp_ring": dict(
        nets=lambda: (mlp(2, 2), nn.Sequential(mlp(2, 1), View())),
        batch=256,
        z=2,
        shape=None,
    ),
    "dcgan28": dict(nets=dcgan28, batch=128, z=100, shape=(1, 28, 28)),
    "dcgan28_r1": dict(nets=dcgan28, batch=128, z=100, shape=(1, 28, 28), r1=10.0),
    "dcgan64": dict(nets=dcgan64, batch=32, z=100, shape=(3, 64, 64)),
    "sngan32": dict(nets=sngan32, batch=32, z=128, shape=(3, 32, 32), hinge=True),
    "pix2pix64": dict(nets=pix2pix64, batch=8, shape=(3, 64, 64), step=from_pairs),
    "cyclegan64": dict(nets=cyclegan64, batch=1, shape=(3, 64, 64), step=both_ways),
}


def make_step(w, mode):
    torch.manual_seed(0)
    nets, batch, form = w["nets"](), w["batch"], torch.contiguous_format
    if "channels_last" in mode:
        form = torch.channels_last
    opts = []
    for net in nets:
        net.to(memory_format=form)
        opts.append(torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999), fused=True))
        if "compile" in mode:
            for part in net if isinstance(net, nn.ModuleList) else [net]:
                part.compile()

    def data():
        return ring(batch) if fixed is None else fixed

    fixed = w["shape"] and torch.randn(batch, *w["shape"]).to(memory_format=form)
    step = w.get("step", from_noise)(*nets, *opts, w, data)
    return step, [sum(p.numel() for p in m.parameters()) for m in nets]


def serve(step):
    """Makes as many steps as each line of stdin says, and prints their milliseconds."""
    for line in sys.stdin:
        print(json.dumps(timed(step, int(line))), flush=True)


def timed(step, n):
    times = []
    for _ in range(n):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--workload", default="dcgan28", choices=WORKLOADS)
    p.add_argument("--mode", default="eager", choices=MODES)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--serve", action="store_true")
    a = p.parse_args()
    step, parameters = make_step(WORKLOADS[a.workload], a.mode)
    for _ in range(3):
        step()
    about = {"version": torch.__version__, "parameters": parameters}
    if a.serve:
        print(json.dumps(about), flush=True)
        return serve(step)
    times = timed(step, a.steps)
    print(json.dumps(about | {"ms_per_step": statistics.median(times)}))


if __name__ == "__main__":
    main()
