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
}


def ring(n):
    angle = torch.randint(0, 8, (n,)) * (6.283185307 / 8)
    return 2 * torch.stack([angle.cos(), angle.sin()], -1) + 0.02 * torch.randn(n, 2)


def make_step(w, mode):
    torch.manual_seed(0)
    g, d = w["nets"]()
    if "channels_last" in mode:
        g, d = (
            g.to(memory_format=torch.channels_last),
            d.to(memory_format=torch.channels_last),
        )
    g_opt = torch.optim.Adam(g.parameters(), 2e-4, (0.5, 0.999), fused=True)
    d_opt = torch.optim.Adam(d.parameters(), 2e-4, (0.5, 0.999), fused=True)
    gf, df = (torch.compile(g), torch.compile(d)) if "compile" in mode else (g, d)
    batch, z_dim, r1 = w["batch"], w["z"], w.get("r1", 0.0)
    fixed = None if w["shape"] is None else torch.randn(batch, *w["shape"])
    if fixed is not None and "channels_last" in mode:
        fixed = fixed.to(memory_format=torch.channels_last)

    def step():
        real = ring(batch) if fixed is None else fixed
        with torch.no_grad():
            fake = gf(torch.randn(batch, z_dim))
        d_opt.zero_grad(set_to_none=True)
        if r1:
            real = real.detach().requires_grad_()
        lr, lf = df(real), df(fake)
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
        lf = df(gf(torch.randn(batch, z_dim)))
        (-lf.mean() if w.get("hinge") else F.softplus(-lf).mean()).backward()
        g_opt.step()

    parameters = [sum(p.numel() for p in m.parameters()) for m in (g, d)]
    return step, parameters


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
