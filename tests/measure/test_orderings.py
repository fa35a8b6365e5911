"""Known orders of sets of images, on made images."""

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from sns.config.schema import Config
from sns.data.dataset import load_dataset
from sns.measure import orderings
from sns.measure.features import from_bytes, to_bytes
from sns.measure.samples import ScoreOptions
from sns.train.run import run

sys.path.insert(0, str(ROOT / "scripts"))
import validate_scores

CPU = torch.device("cpu")


def test_the_steps_are_what_they_say() -> None:
    x = from_bytes(torch.randint(0, 256, (3000, 1, 8, 8), dtype=torch.uint8))
    y = torch.arange(3000) % 10
    made = {(step.kind, step.step): step for step in orderings.steps(x, y, 1000)}
    real = made[orderings.REAL, 0].images
    lines = {tuple(row): int(label) for row, label in zip(to_bytes(x).flatten(1).tolist(), y, strict=True)}
    for step in made.values():
        assert step.images.shape[1:] == (1, 8, 8)
        assert step.images.min() >= -1
        assert step.images.max() <= 1
        known = [tuple(row) for row in to_bytes(step.images).flatten(1).tolist()]
        if step.kind == "classes":
            assert {lines[row] for row in known} == set(range(int(step.level)))
            assert len(known) == min(1000, 300 * int(step.level))
        elif step.kind == "distinct":
            assert (len(known), len(set(known))) == (1000, step.level)
    middle = (real.abs() < 0.2).expand_as(real)  # far from black and white, where noise is cut
    for step in (1, 2):
        noise = (made["noise", step].images - real)[middle] * 128
        assert noise.std().item() == pytest.approx(made["noise", step].level, rel=0.05)
    assert [made["blur", step].level for step in (1, 2, 3)] == [0.25, 0.5, 1]


def test_a_blur_keeps_the_mean_and_spreads_a_point_as_a_gaussian() -> None:
    x = torch.zeros(1, 2, 21, 21)
    x[0, 0, 10, 10] = 1
    out = orderings.blurred(x, 1.5)
    assert out.sum().item() == pytest.approx(1, abs=1e-5)
    across = torch.arange(21) - 10.0
    assert (out[0, 0].sum(dim=0) * across**2).sum().sqrt().item() == pytest.approx(1.5, rel=0.03)
    torch.testing.assert_close(orderings.blurred(torch.ones(1, 3, 5, 5), 2.0), torch.ones(1, 3, 5, 5))


def made_images(path: Path) -> None:
    """Ten classes: a smooth pattern each, moved by up to a pixel, at varied brightness."""
    random = np.random.default_rng(0)
    patterns = random.normal(size=(10, 16, 16, 3))
    for axis in (1, 2):
        patterns = patterns + np.roll(patterns, 1, axis) + np.roll(patterns, -1, axis)
    arrays = {}
    for name, count in (("train", 2000), ("test", 600)):
        y = np.arange(count) % 10
        moves = random.integers(-1, 2, (count, 2))
        x = np.stack([np.roll(patterns[label], move, (0, 1)) for label, move in zip(y, moves, strict=True)])
        x = 128 + 8 * x * random.uniform(0.6, 1.4, (count, 1, 1, 1))
        arrays |= {f"x_{name}": x.round().clip(0, 255).astype(np.uint8), f"y_{name}": y}
    np.savez(path, **arrays)


@pytest.fixture
def classified(tiny: Callable[..., Config], tmp_path: Path) -> Config:
    """A finished classifier of made images."""
    made_images(tmp_path / "made.npz")
    config = tiny(
        "data=npz",
        f"data.path={tmp_path / 'made.npz'}",
        "data.subset=null",
        "data.test_subset=null",
        "data.resolution=16",
        "model.widths=[[8],[16],[16]]",
        "model.hidden=16",
        "measure.hessian=false",
        "measure.spectra=false",
    )
    assert run(config).final["test_accuracy"] > 0.9
    return config


def test_every_order_of_made_images_is_right(classified: Config) -> None:
    images = load_dataset(replace(classified.data, gcn="none"), CPU)
    options = ScoreOptions(classifier=str(classified.directory), imagenet=False, samples=200)
    rows = list(orderings.measure(options, images, CPU))
    assert [row["step"] for row in rows] == [-1, 0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 1, 2, 3]
    assert {row["imagenet_frechet"] for row in rows} == {None}
    orders = orderings.orders(rows)
    assert {kind for _, kind, _ in orders} == {orderings.REAL, "noise", "blur", "classes", "distinct"}
    assert all(orders.values()), "\n".join(map(str, rows))


def test_the_command_writes_every_row_and_fails_for_a_wrong_order(
    classified: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    words = ["--path", classified.data.path, "--classifier", str(classified.directory), "--out", str(tmp_path / "out")]
    words += ["--sides", "16", "--samples", "200"]
    assert validate_scores.main(words) == 0
    rows = (tmp_path / "out/score_validation.csv").read_text().splitlines()
    assert rows[0].split(",") == list(orderings.COLUMNS)
    assert len(rows) == 16
    assert capsys.readouterr().out.count("right") == 5
    monkeypatch.setattr(orderings, "NOISE", (50, 20, 5))
    assert validate_scores.main(words) == 1
    assert capsys.readouterr().out.count("wrong") == 1


def test_a_wrong_order_is_seen() -> None:
    def row(kind: str, step: int, value: float) -> dict[str, object]:
        return {"side": 8, "kind": kind, "step": step, "classifier_frechet": value, "imagenet_frechet": None}

    rows = [row("real", -1, 9), row("real", 0, 1), row("noise", 1, 2), row("noise", 2, 3)]
    assert set(orderings.orders(rows).values()) == {True}
    assert orderings.orders([*rows, row("blur", 1, 5), row("blur", 2, 5)])[8, "blur", "classifier_frechet"] is False
    assert orderings.orders([*rows, row("blur", 1, 1)])[8, "real", "classifier_frechet"] is False


def test_every_order_of_the_committed_measurement_is_right() -> None:
    with (ROOT / "results/sngan/score_validation.csv").open() as file:
        rows: list[dict[str, object]] = [
            {**row, "side": int(row["side"]), "step": int(row["step"])} for row in csv.DictReader(file)
        ]
    orders = orderings.orders(rows)
    assert len(orders) == 2 * 5 * 2
    assert all(orders.values())
