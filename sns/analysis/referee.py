"""The figure of scripts/referee.py: estimates of norms over the exact norm, one mark a layer."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sns.analysis.figures import style

NAMES = {
    "reshaped": "reshaped kernel",
    "reshaped_bound": "reshaped kernel times sqrt(kh kw) *",
    "fantastic_four": "least of four reshaped kernels *",
    "lip_bound": "bound of Araujo et al.",
    "circular": "circular padding",
    "circular_larger": "circular padding, larger image *",
    "gram_iteration": "Gram iteration",
    "gram_iteration_larger": "Gram iteration, larger image *",
}


def draw(rows: pd.DataFrame) -> Figure:
    """`rows`: what `sns.measure.referee.measure` returns for networks named `setting method`."""
    places = rows["network"].str.split(" ", n=1, expand=True)
    settings, methods = list(dict.fromkeys(places[0])), list(dict.fromkeys(places[1]))
    figure = style.new(6.5, 3.4)
    axes = figure.add_subplot()
    colours = {setting: style.SPARE[number % len(style.SPARE)][0] for number, setting in enumerate(settings)}
    shifts = np.linspace(-0.3, 0.3, rows["network"].nunique())
    for shift, (network, own) in zip(shifts, rows.groupby("network", sort=False), strict=True):
        setting, _, method = str(network).partition(" ")
        height = own["estimate"].map(list(NAMES).index) + shift
        marker = style.look(method, methods)[1]
        axes.plot(own["over_exact"], height, ls="", marker=marker, ms=3, color=colours[setting], alpha=0.6)
    axes.axvline(1, color="#000000", lw=0.8)
    axes.set(xscale="log", xlabel="estimate / exact norm with zero padding", ylim=(len(NAMES) - 0.5, -0.5))
    ticks = [0.5, 1, 2, 5]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(range(len(NAMES)), list(NAMES.values()))
    axes.minorticks_off()
    caption = (
        "One mark a convolution at stride 1 with a kernel larger than 1x1. * an upper bound for zero padding: a mark "
        "left of the line would violate it."
    )
    handles = [Line2D([], [], color=colour, lw=3, label=setting) for setting, colour in colours.items()]
    looks = [(method, style.look(method, methods)[1]) for method in methods]
    handles += [Line2D([], [], color="#555555", ls="", marker=marker, ms=4, label=name) for name, marker in looks]
    return style.finish(figure, handles, caption)
