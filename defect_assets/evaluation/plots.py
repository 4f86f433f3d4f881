"""Plots of an evaluation, as SVG to be put into a page."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from defect_assets.evaluation.aupro import LIMIT, pro_curve
from defect_assets.evaluation.calibration import ReliabilityBin
from defect_assets.evaluation.counts import ANY

_INK = "#010203"
"""Stands for the page's text colour, which is another one in the dark."""
_BLUE, _RED, _QUIET = "#3b82f6", "#e11d48", "#8a8f98"
_STYLE: Any = {
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "defect-assets",  # the same plot gives the same bytes
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _QUIET,
    "grid.alpha": 0.3,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def plot_overlap(sums: np.ndarray, aupro: float | None) -> str:
    """Plot the per-region overlap over the false-positive rate, up to `LIMIT`.

    Parameters
    ----------
    sums
        Of all parts; see `defect_assets.evaluation.aupro.pro_curve`.
    aupro
        The area.
    """
    [rate], [overlap] = pro_curve(sums[None])
    with mpl.rc_context(_STYLE):
        figure, axes = _axes("Per-region overlap", "false-positive rate of pixels", "overlap")
        axes.plot(rate, overlap, color=_BLUE)
        axes.fill_between(rate, overlap, where=rate <= LIMIT, color=_BLUE, alpha=0.15, lw=0)
        axes.set(xlim=(0, LIMIT), ylim=(0, 1.02))
        if aupro is not None:
            axes.text(0.97, 0.06, f"AUPRO {aupro:.3f}", ha="right", transform=axes.transAxes)
        return _svg(figure)


def plot_ranking(table: pd.DataFrame, threshold: float) -> str:
    """Plot how the highest probability is distributed over defective and defect-free images."""
    defective = table[f"tp_{ANY}"] + table[f"fn_{ANY}"] > 0
    edges = np.linspace(0, 1, 26).tolist()
    with mpl.rc_context(_STYLE):
        figure, axes = _axes("Images by their highest probability", "highest probability", "images")
        for chosen, color, name in (
            (~defective, _BLUE, "defect-free"),
            (defective, _RED, "defective"),
        ):
            axes.hist(table.loc[chosen, "score"], edges, color=color, alpha=0.6, label=name)
        axes.axvline(threshold, color=_INK, lw=1, ls="--", label="threshold")
        axes.set(xlim=(0, 1), yscale="symlog")
        axes.yaxis.set_major_formatter("{x:.0f}")
        axes.legend(fontsize=8, loc="upper center")
        return _svg(figure)


def plot_reliability(bins: Sequence[ReliabilityBin]) -> str:
    """Plot the share of defective pixels over the probability they were given."""
    shown = [b for b in bins if b.pixels]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes("Reliability of pixels", "probability given", "share defective")
        axes.plot([0, 1], [0, 1], color=_QUIET, lw=1, ls="--")
        axes.plot(
            [b.probability or 0 for b in shown],
            [b.defective or 0 for b in shown],
            color=_BLUE,
            marker="o",
            ms=4,
        )
        axes.set(xlim=(0, 1), ylim=(0, 1))
        return _svg(figure)


def plot_history(history: Sequence[dict[str, float]]) -> str:
    """Plot training loss and validation Dice by step."""
    steps = [point["step"] for point in history]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes("Training", "step", "loss")
        axes.plot(steps, [point["loss"] for point in history], color=_QUIET)
        axes.set_ylim(0)
        right = axes.twinx()
        right.plot(steps, [point["val_dice"] for point in history], color=_BLUE)
        right.set_ylim(0, 1)
        right.set_ylabel("validation Dice", color=_BLUE)
        right.grid(False)
        return _svg(figure)


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.9, 2.7), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # Several plots are on one page, where no two things may have one id.
    svg = re.sub(r' id="[a-z0-9]+(\.[a-z]+)?_\d+"', "", svg)
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
