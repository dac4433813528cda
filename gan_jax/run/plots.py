"""Plots of points: samples over the data, on axes that the data alone set.

One coordinate is a histogram and two are a scatter plot. More are shown as up to three
scatter plots of neighbouring coordinates, (0, 1), (2, 3) and (4, 5).
"""

import io
import itertools
import math
from typing import Any

import numpy as np

_QUANTILES = 0.005, 0.995  # of the data, between which an axis lies without its margin
_MARGIN = 0.2  # of an axis on each side, as a share of the data's range
_DATA, _SAMPLES = "0.7", "C0"  # colours


def png(samples: np.ndarray, data: np.ndarray | None = None) -> bytes:
    """Returns a PNG with a plot for each replica, or a row of them.

    Args:
      samples: `[replicas, num, coordinates]`; NaN and inf are counted as outside.
      data: `[num, coordinates]`, drawn behind the samples. Their range sets the axes,
        so that plots of several steps can be compared; by default the samples' does.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    num, _, coordinates = samples.shape
    views = projections(coordinates)
    columns = len(views) if len(views) > 1 else math.ceil(math.sqrt(num))
    rows = -(-num * len(views) // columns)
    like = samples.reshape(-1, coordinates) if data is None else data
    axis_limits = [limits(values) for values in like.T]
    figure = Figure(figsize=(4 * columns, 4 * rows), layout="constrained")
    panels = itertools.product(enumerate(samples), views)
    for n, ((i, points), view) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, n)
        shown = [axis_limits[c] for c in view]
        draw = _histogram if len(view) == 1 else _scatter
        if data is not None:
            draw(axes, _inside(data[:, view], shown), len(data), shown, _DATA)
        inside = _inside(points[:, view], shown)
        draw(axes, inside, len(points), shown, _SAMPLES)
        _label(axes, view, coordinates)
        outside = len(points) - len(inside)
        title = [f"replica {i}"] * (num > 1)
        title += [f"{outside} of {len(points)} outside"] * (outside > 0)
        axes.set_title(", ".join(title), fontsize="medium")
    if data is not None:
        patches = (
            Patch(color=_DATA, label="data"),
            Patch(color=_SAMPLES, label="samples"),
        )
        figure.legend(handles=patches, loc="outside lower center", ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def projections(coordinates: int) -> list[tuple[int, ...]]:
    """Returns which coordinates each plot of a set of points shows."""
    if coordinates == 1:
        return [(0,)]
    starts = range(0, min(coordinates, 6), 2)
    return [(i, i + 1) for i in (min(i, coordinates - 2) for i in starts)]


def limits(values: np.ndarray) -> tuple[float, float]:
    """Returns the ends of an axis on which nearly all values lie, with a margin.

    Args:
      values: `[num]` of one coordinate; NaN and inf are ignored.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = np.quantile(finite, _QUANTILES) if finite.size else (0.0, 0.0)
    margin = _MARGIN * (high - low) or max(1.0, 0.01 * abs(high))
    return float(low - margin), float(high + margin)


def _inside(points: np.ndarray, shown: list[tuple[float, float]]) -> np.ndarray:
    """Returns the points that lie within the limits of their plot."""
    low, high = np.array(shown).T
    return points[((points >= low) & (points <= high)).all(1)]


def _histogram(axes: Any, points: np.ndarray, num: int, shown, colour: str) -> None:
    """Draws the share of `num` points that lies in each bin."""
    bins, weights = np.linspace(*shown[0], 101), np.full(len(points), 1 / num)
    alpha = 0.6 if colour == _SAMPLES else 1.0
    axes.hist(points[:, 0], bins, weights=weights, color=colour, alpha=alpha)
    axes.set(xlim=shown[0])


def _scatter(axes: Any, points: np.ndarray, num: int, shown, colour: str) -> None:
    axes.scatter(*points.T, s=2, alpha=0.4, linewidths=0, color=colour)
    spans = [high - low for low, high in shown]
    if max(spans) < 4 * min(spans):  # else one of them would be a line
        axes.set_aspect("equal")
    axes.set(xlim=shown[0], ylim=shown[1])


def _label(axes: Any, view: tuple[int, ...], coordinates: int) -> None:
    """Names the coordinates where there are more than the plot shows."""
    if coordinates > 2:
        axes.set(xlabel=f"coordinate {view[0]}", ylabel=f"coordinate {view[1]}")
