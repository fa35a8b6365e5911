"""Estimates of norms on the layers of a network."""

import pandas as pd
import torch
from torch import nn

from sns.analysis.referee import NAMES, draw
from sns.linalg.bounds import BOUNDS, ESTIMATES
from sns.linalg.conv_operator import operator_norm
from sns.measure.referee import COLUMNS, measure, summary


def test_every_plain_convolution_is_measured_at_its_own_size() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.Conv2d(5, 5, 1),  # the matrix is the map
        nn.Conv2d(5, 6, 3, stride=2),
        nn.Flatten(),
        nn.Linear(6 * 4, 2),
    )
    rows = measure("made", model, (3, 12, 12))
    assert [(row["layer"], row["side"]) for row in rows[:: len(ESTIMATES)]] == [("0.weight", 12), ("2.weight", 6)]
    assert all(set(row) == set(COLUMNS) for row in rows)
    second = {row["estimate"]: row["over_exact"] for row in rows if row["layer"] == "2.weight"}
    exact = operator_norm(model[2].weight, (6, 6), 1, 1)
    assert abs(second["circular"] * exact - ESTIMATES["circular"](model[2].weight.detach(), (6, 6))) < 1e-6
    page = summary(rows)
    assert page.count("\n") == 2 + len(ESTIMATES)
    assert "| circular_larger (bound) |" in page
    assert "| 2 of 2 |" in next(line for line in page.splitlines() if line.startswith("| reshaped |"))


def test_the_figure_has_a_mark_for_each_layer_and_estimate() -> None:
    assert list(NAMES) == list(ESTIMATES)
    assert {name for name, label in NAMES.items() if label.endswith("*")} == set(BOUNDS)
    names = ("a vanilla", "a spectral", "b vanilla")
    rows = [
        {"network": name, "estimate": estimate, "over_exact": 1.0 + place}
        for place, name in enumerate(names)
        for estimate in ESTIMATES
        for _ in range(2)
    ]
    (axes,) = draw(pd.DataFrame(rows)).axes
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in marks] == [2 * len(ESTIMATES)] * len(names)
    heights = [round(value) for value in marks[1].get_ydata()]
    assert heights == sorted(list(range(len(ESTIMATES))) * 2)
