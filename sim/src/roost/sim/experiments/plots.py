"""Figures as SVG and PNG files, legible and the same at every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")  # before pyplot: no window is wanted

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from roost.sim.experiments.outcome import Chart, Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; and dashes, for those who print in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "roost", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10.0, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "legend.frameon": False, "figure.dpi": 110.0,
}  # fmt: skip
PANEL_INCHES = (5.2, 3.6)


def draw(figure: Figure, folder: Path) -> tuple[Path, Path]:
    """Writes FOLDER/NAME.svg and FOLDER/NAME.png."""
    count = len(figure.charts)
    with mpl.rc_context(STYLE):
        drawn, panels = plt.subplots(1, count, figsize=(PANEL_INCHES[0] * count, PANEL_INCHES[1]), layout="constrained", squeeze=False)
        for axes, chart in zip(panels[0], figure.charts, strict=True):
            _panel(axes, chart)
        labels = list(dict.fromkeys(line.label for chart in figure.charts for line in chart.lines))
        handles, named = panels[0][0].get_legend_handles_labels()
        if labels == named:  # the panels share their lines, so one legend serves them
            drawn.legend(
                handles, labels, loc="outside lower center", ncols=min(2, len(labels)) if len(labels) > 3 else len(labels), fontsize=9
            )
        else:
            for axes in panels[0]:
                axes.legend(loc="best", fontsize=9)
        paths = folder / f"{figure.name}.svg", folder / f"{figure.name}.png"
        for path in paths:
            drawn.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
        plt.close(drawn)
    return paths


def _panel(axes: Axes, chart: Chart) -> None:
    for number, line in enumerate(chart.lines):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.8}
        if chart.is_stepped:
            axes.step(line.xs, line.ys, where="post", label=line.label, **style)
        else:
            axes.plot(line.xs, line.ys, label=line.label, marker="o" if len(line.xs) <= 12 else None, markersize=4, **style)
        if line.low:
            axes.fill_between(line.xs, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label, xscale=chart.x_scale, yscale=chart.y_scale)
    low, high = axes.get_ylim()
    for at, word in chart.marks:
        axes.axvline(at, color="#555555", linewidth=1.0, linestyle=":")
        axes.annotate(
            word, (at, 0.02), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points", color="#555555", fontsize=8
        )
    axes.set_ylim(0.0 if chart.y_scale == "linear" else low, high)
    for scale, axis in ((chart.x_scale, axes.xaxis), (chart.y_scale, axes.yaxis)):
        if scale == "log":
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
            axis.set_major_locator(LogLocator(base=10.0, subs=(1.0, 2.0, 5.0)))
