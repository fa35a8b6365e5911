"""The figure over the factor on lambda, from records with chosen numbers."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from matplotlib import pyplot as plt
from synthetic import write_run

from sns.analysis.cells import load_results as load
from sns.analysis.figures import dose, style
from sns.analysis.figures.render import render
from sns.common.errors import RecordError

SCALES = (1.0, 10.0, 100.0)


def write(folder: Path, method: str, regime: str, scale: float, seed: int, status: str = "ok") -> None:
    """A run whose test accuracy is 0.5 + scale / 1000 + seed / 100, 0.1 less for decay."""
    name = f"vgg_pocket__{method}__{regime}__s{seed}__{scale:g}"
    accuracy = 0.5 + scale / 1000 + seed / 100 - (0.1 if method == "decay" else 0.0)
    folds = {"learning_rate_sum": 1.0, "e_folds": scale * 2.0}
    own = {
        "run_id": name,
        "variant": f"{int(scale):08x}",
        "dose": folds,
        "batch_size": 64 if regime == "small" else 416,
    }
    place = write_run(folder, "vgg_pocket", method, regime, seed, status=status, test_accuracy=accuracy, gap=0.2, **own)
    config = yaml.safe_load((place / "config.yaml").read_text())
    config["method"]["scale"] = scale
    (place / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "runs" / "doses"
    for method in ("decay", "spectral"):
        for scale in SCALES:
            for seed in (0, 1):
                write(place, method, "small", scale, seed)
    return place


def test_every_factor_has_its_mean_and_range(folder: Path) -> None:
    write(folder, "spectral", "large", 1.0, 0)
    frame = dose.compute(load(folder))
    assert list(frame.columns) == dose.COLUMNS
    rows = frame[(frame["method"] == "decay") & (frame["regime"] == "small") & (frame["quantity"] == "test_accuracy")]
    assert rows["scale"].tolist() == list(SCALES)
    assert rows["e_folds"].tolist() == [2.0, 20.0, 200.0]
    assert rows["mean"].tolist() == pytest.approx([0.406, 0.415, 0.505])
    assert rows["low"].tolist() == pytest.approx([0.401, 0.410, 0.500])
    assert rows["high"].tolist() == pytest.approx([0.411, 0.420, 0.510])
    assert set(rows["n"]) == {2}
    assert set(frame["quantity"]) == set(dose.QUANTITIES)
    assert set(frame[frame["regime"] == "large"]["batch_size"]) == {416}


def test_the_figure_draws_a_line_for_each_method_and_batch(folder: Path, tmp_path: Path) -> None:
    write(folder, "spectral", "small", 0.0, 0)
    results = load(folder)
    frame = dose.compute(results)
    with style.context():
        figure = dose.draw(frame)
        assert [axes.get_title() for axes in figure.axes] == list(dose.QUANTITIES.values())
        spectral = figure.axes[0].lines[1]
        assert list(spectral.get_xdata()) == [0.0, *SCALES]
        assert list(spectral.get_ydata()) == pytest.approx([0.5, 0.506, 0.515, 0.605])
        plt.close(figure)
    files = render("dose", results, tmp_path)
    assert [file.name for file in files] == [f"figuredose.{kind}" for kind in ("png", "pdf", "csv", "txt")]
    assert pd.read_csv(files[2])["mean"].tolist() == pytest.approx(frame["mean"].tolist())


def test_the_caption_names_the_runs_and_what_is_not_shown(folder: Path) -> None:
    write(folder, "decay", "small", 1000.0, 0, status="diverged")
    caption = dose.compute(load(folder)).attrs["caption"]
    assert "experiment doses; vgg_pocket; 12 runs, seeds 0, 1; 3 epochs" in caption
    assert caption.endswith("Not shown: 1 run(s) that diverged or failed.")


def test_one_factor_for_each_method_is_no_sweep(tmp_path: Path) -> None:
    write(tmp_path, "decay", "small", 1.0, 0)
    write(tmp_path, "spectral", "small", 10.0, 0)
    write_run(tmp_path, "vgg_pocket", "vanilla")
    with pytest.raises(RecordError, match=r"ran with several method\.scale: train experiment=pocket_dose"):
        dose.compute(load(tmp_path))
