"""Plotted numbers equal the records' numbers; partial experiments are drawn and say what is
missing."""

import html
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from synthetic import HISTORY, write_grid, write_run

from sns.analysis.cells import Results
from sns.analysis.cells import load_results as load
from sns.analysis.figures import figure1, figure2, figure3, figure4, figure5, figure6, plotted, style, traces
from sns.analysis.figures.render import FIGURES, by_key, render, render_all, resolve
from sns.analysis.report import figures as report_figures
from sns.analysis.stats import combine_correlations, spearman
from sns.common.errors import RecordError, UserError

SCRIPT = Path(__file__).parents[2] / "scripts" / "figures.py"
MAIN = "densenet40_cifar100"


def pick(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def drawn(figure: Figure) -> list[str]:
    """Every text in the panels of a figure, which is closed."""
    texts = [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title]]
    plt.close(figure)
    return texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results") / "runs" / "demo"

    def effect(setting: str, method: str, regime: str, seed: int) -> dict[str, Any]:
        place = len(method) + (regime == "large")
        return {"hessian": {"train": 10.0 * place + seed, "test": 20.0 * place + seed}, "sigma_max": 1.0 + seed}

    write_grid(root, (MAIN, "nin_cifar100"), seeds=(0, 1, 2), epochs=8, effect=effect, realistic=True)
    return root


def test_figure1_plots_the_histories(folder: Path) -> None:
    results = load(folder)
    frame = figure1.compute(results)
    histories = [record.history for record in results.cell(MAIN, "decay", "large").records]
    for name in ("test_accuracy", "train_accuracy", "gap"):
        rows = pick(frame, method="decay", regime="large", quantity=name)
        values = np.array([history[name] for history in histories])
        np.testing.assert_allclose(rows["mean"], values.mean(0), rtol=1e-14)
        np.testing.assert_array_equal(rows["low"], values.min(0))
        np.testing.assert_array_equal(rows["high"], values.max(0))
        assert list(rows["epoch"]) == list(histories[0]["epoch"])
        assert set(rows["n"]) == {3}
    assert set(frame["setting"]) == {MAIN}
    assert pick(frame, method="decay", regime="large", quantity="alpha")["mean"].item() == 0.63


def test_figure1_draws_the_papers_line_styles(folder: Path) -> None:
    frame = figure1.compute(load(folder))
    with style.context():
        figure = figure1.draw(frame)
    axes = figure.axes[0]
    lines = [line for line in axes.lines if line.get_color() == style.COLOURS["spectral"]]
    ends = {line.get_linestyle(): line.get_ydata()[-1] for line in lines}
    rows = pick(frame, method="spectral", regime="small", epoch=8.0).set_index("quantity")["mean"]
    assert ends == {"-": rows["test_accuracy"], "--": rows["train_accuracy"], ":": rows["gap"]}
    assert [axes.get_title() for axes in figure.axes] == [
        "DenseNet-40, CIFAR-100, B=64",
        "DenseNet-40, CIFAR-100, B=4096",
    ]
    plt.close(figure)


def test_figure2_points_and_rank_correlations(folder: Path) -> None:
    results = load(folder)
    frame = pick(figure2.compute(results), method="spectral", regime="small")
    histories = [record.history for record in results.cell(MAIN, "spectral", "small").records]
    norms = pick(frame, quantity="test_gradient_norm")
    np.testing.assert_allclose(norms["mean"], np.mean([h["test_gradient_norm"] for h in histories], axis=0), rtol=1e-14)
    runs = [spearman(h["test_gradient_norm"].tolist(), h["gap"].tolist()) for h in histories]
    rho = pick(frame, quantity="rho_test")
    expected = combine_correlations(runs)
    assert (rho["mean"].item(), rho["low"].item(), rho["high"].item()) == (expected.rho, expected.low, expected.high)


def test_figures_5_and_6_show_the_other_settings(folder: Path) -> None:
    results = load(folder)
    for name, other, main in (("5", figure5, figure1), ("6", figure6, figure2)):
        frame = other.compute(results)
        assert set(frame["setting"]) == {"nin_cifar100"}
        pd.testing.assert_frame_equal(frame, main.compute(results, "nin_cifar100"))
        assert set(other.compute(results, "nin_cifar100")["setting"]) == {MAIN}
        assert FIGURES[name] is other


def test_figure3_holds_every_seed_and_the_mean(folder: Path) -> None:
    frame = pick(figure3.compute(load(folder)), method="decay", regime="large", part="test")
    assert list(frame["eigenvalue"]) == [120.0, 121.0, 122.0]
    assert set(frame["mean"]) == {121.0}
    assert set(frame["sd"]) == {1.0}


def test_figure3_without_the_measurement_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, hessian=False)
    with pytest.raises(RecordError, match=r"vgg_cifar10 measured the Hessian; .*measure.hessian=true"):
        figure3.compute(load(tmp_path))


def test_figure3_negative_eigenvalues_and_partial_measurements(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0, hessian={"train": -3.0, "test": 400.0})
    write_run(tmp_path, seed=1, hessian=False)
    frame = figure3.compute(load(tmp_path))
    assert "1 run(s) without this measurement" in frame.attrs["caption"]
    with style.context():
        figure = figure3.draw(frame)
    assert figure.axes[0].get_yscale() == "linear"
    plt.close(figure)


def test_figure4_spectra_and_the_middle_convolution(folder: Path) -> None:
    results = load(folder)
    frame = figure4.compute(results)
    assert frame.attrs["first_panel"] == "features.6.weight"
    rows = pick(frame, method="vanilla", regime="small", layer="features.6.weight")
    spectra = [record.spectra for record in results.cell(MAIN, "vanilla", "small").records]
    values = [s[s["layer"] == "features.6.weight"]["singular_value"] for s in spectra if s is not None]
    np.testing.assert_allclose(rows["mean"], np.mean(values, axis=0), rtol=1e-14)
    np.testing.assert_array_equal(rows["high"], np.max(values, axis=0))
    assert list(rows["index"]) == list(range(32))


def test_figure4_limits_the_small_multiples() -> None:
    layers = [f"l{i}" for i in range(40)]
    shown = figure4._spread(layers)
    assert len(shown) == figure4.SMALL
    assert (shown[0], shown[-1]) == ("l0", "l39")


def test_render_writes_the_plotted_numbers_and_is_repeatable(folder: Path, tmp_path: Path) -> None:
    results = load(folder)
    for name in ("1", "3", "4"):
        files = render(name, results, tmp_path / "a")
        assert [file.name for file in files] == [f"figure{name}.{kind}" for kind in ("png", "pdf", "csv", "txt")]
        expected = FIGURES[name].compute(results)
        back = pd.read_csv(files[2], dtype=str)  # Python's own reading of numbers is exact in every version
        column = "eigenvalue" if name == "3" else "mean"
        assert [float(text) for text in back[column]] == expected[column].tolist()
        assert files[3].read_text() == f"Figure {name}. {expected.attrs['caption']}\n"
    again = render("fig1", results, tmp_path / "b")
    for file in again:
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()


def test_captions_name_the_runs_and_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "trial"
    write_grid(folder, ("digits_densenet",), ("vanilla", "spectral"), ("small",), seeds=(0, 1))
    write_run(folder, "digits_densenet", "decay", "small", 3, status="diverged")
    results = load(folder)
    caption = figure1.compute(results).attrs["caption"]
    assert "The paper shows DenseNet-40, CIFAR-100 here." in caption
    assert "experiment trial; digits_densenet; 4 runs, 2 a cell, seeds 0, 1; 3 epochs" in caption
    assert "commit 0123456; Synthetic GPU." in caption
    assert plotted._either({64.0, 16.0, 2.5}) == "2.5, 16 or 64"
    assert "Not run: digits_densenet small (adversarial), digits_densenet large (all)." in caption
    assert "Not shown: digits_densenet small decay (diverged, seed 3)." in caption


def test_partial_experiments_draw(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "trial"
    write_run(folder, "digits_vgg", "toy", "large", epochs=1)
    write_run(folder, "digits_nin", "spectral", "small", epochs=2, spectra=False)
    write_run(folder, "digits_nin", "vanilla", "small", status="diverged")
    write_run(folder, "digits_zoo", "vanilla", "small", status="diverged")
    results = load(folder)
    others = {"dose", "sngan_scores", "sngan_spectra"}  # no run has a factor or is of a GAN
    with style.context():
        for module in (module for name, module in FIGURES.items() if name not in others):
            assert drawn(module.draw(module.compute(results)))
        for module in (figure1, figure2):  # nothing but a diverged run
            assert "no finished run" in drawn(module.draw(module.compute(results, "digits_zoo")))
    with pytest.raises(RecordError, match="digits_nin measured its spectra"):
        render("fig4", results, tmp_path, "digits_nin")


def test_damaged_spectra_are_named_in_the_caption(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0)
    damaged = write_run(tmp_path, seed=1) / "spectra.csv"
    damaged.write_text("layer,index,singular_value\nfeatures.0.weight,0,x\n")
    frame = figure4.compute(load(tmp_path))
    assert set(frame["n"]) == {1}
    assert f"Left out: {damaged}" in frame.attrs["caption"]


def test_main_setting(tmp_path: Path) -> None:
    write_grid(tmp_path, ("digits_nin",), ("vanilla",))
    assert plotted.main_setting(load(tmp_path)) == "digits_nin"
    with pytest.raises(RecordError, match="other than digits_nin"):
        figure5.compute(load(tmp_path))
    write_grid(tmp_path, ("digits_densenet",), ("vanilla",))
    assert plotted.main_setting(load(tmp_path)) == "digits_densenet"
    write_grid(tmp_path, (MAIN,), ("vanilla",))
    assert plotted.main_setting(load(tmp_path)) == MAIN
    with pytest.raises(RecordError, match="no record of vgg; settings with records: "):
        plotted.main_setting(load(tmp_path), "vgg")


def test_methods_differ_in_grey_print() -> None:
    def luminance(colour: str) -> float:
        return sum(w * int(colour[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) / 255

    levels = sorted(luminance(colour) for colour in style.COLOURS.values())
    assert min(np.diff(levels)) > 0.1
    assert len(set(style.MARKERS.values())) == 4
    assert style.look("toy", ["spectral", "toy"]) != style.look("zoo", ["toy", "zoo"])


def test_names() -> None:
    assert [resolve(name) for name in ("fig3", "Figure3", "3")] == ["3"] * 3
    with pytest.raises(UserError, match="no figure fig7; choose from 1, "):
        resolve("fig7")


def test_a_figure_needs_no_more_than_numbers_and_a_drawing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Mine:
        @staticmethod
        def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
            return pd.DataFrame({"cells": [len(results.cells)]})

        @staticmethod
        def draw(frame: pd.DataFrame) -> Figure:
            figure = style.new(2.0, 2.0)
            figure.subplots().bar(["cells"], frame["cells"])
            return figure

    monkeypatch.setitem(FIGURES, "mine", Mine)  # type: ignore[arg-type]
    assert runpy.run_path(str(SCRIPT))["main"](["mine", str(folder.parents[1]), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figuremine.csv").read_text() == "cells\n16\n"
    assert (tmp_path / "figuremine.txt").read_text() == "mine.\n"
    assert "figuremine.png" in capsys.readouterr().out
    entry = report_figures.build(load(folder))["mine"]
    assert (entry["title"], entry["panels"], entry["error"]) == ("mine", [], None)
    assert entry["image"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("where", ["compute", "draw", "panels"])
def test_a_bug_in_one_figure_leaves_the_others(
    where: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def wrong(*_: Any) -> Any:
        return {}["sigmamax"]

    mine = SimpleNamespace(compute=figure1.compute, draw=figure1.draw, panels=figure1.panels, __file__=__file__)
    setattr(mine, where, wrong)
    monkeypatch.setitem(FIGURES, "mine", mine)
    line = wrong.__code__.co_firstlineno + 1
    error = f"figure mine: KeyError 'sigmamax' in tests/analysis/test_figures.py, line {line}"
    results, out = str(folder.parents[1]), tmp_path / "out"
    out.mkdir()
    report = runpy.run_path(str(SCRIPT.parent / "report.py"))["main"]
    asked = [results, "--out", str(out)]
    assert report(asked) == (0 if where == "draw" else 1)  # the page shows the panels of this figure
    page = html.unescape((out / "report.html").read_text())
    assert (f'<p class="note">{error}</p>' in page, 'id="fig2"' in page) == (where != "draw", True)
    assert capfd.readouterr().err == ("" if where == "draw" else f"{error} (SNS_DEBUG=1 shows the trace)\n")
    draw = runpy.run_path(str(SCRIPT))["main"]
    monkeypatch.setenv("SNS_DEBUG", "1")
    assert draw(["mine", "fig1", *asked]) == (0 if where == "panels" else 1)
    printed = capfd.readouterr()
    assert (f"mine not drawn: {error}" in printed.err, "Traceback" in printed.err) == (where != "panels",) * 2
    assert "figure1.png" in printed.out
    assert len(list(out.glob("figuremine*"))) == (4 if where == "panels" else 0)


def test_panels_that_json_cannot_hold_are_that_figures_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure1, "panels", lambda _: [{"title": "x", "data": [{"y": np.arange(2)}], "layout": {}}])
    entry = report_figures.build(load(folder))["1"]
    assert entry["error"].startswith("figure 1: TypeError Object of type ndarray is not JSON serializable in ")
    assert entry["bug"]


def test_two_files_of_one_figure_are_refused() -> None:
    with pytest.raises(ValueError, match="the figure '1' is already registered"):
        by_key({"fig1": figure2, "figure1": figure1, "traces": traces})


def test_script(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    where = str(folder.parents[1])
    assert main(["fig3", where, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure3.pdf").is_file()
    assert main(["fig9", where]) == 1
    assert main(["fig1", str(tmp_path / "absent")]) == 1
    assert main(["fig5", where, "--setting", "zoo"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 3
    assert "Traceback" not in error


@pytest.mark.parametrize(("difference", "shown"), [(0.02, True), (0.005, False)])
def test_figure1_shows_the_recalibrated_accuracy_where_it_differs(
    tmp_path: Path, difference: float, shown: bool
) -> None:
    name = "recalibrated_test_accuracy"
    for seed in (0, 1):
        values = {"test_accuracy": [0.2, 0.3, 0.5], name: [0.2 + difference, 0.3, 0.5]}
        older = [column for column in HISTORY if column != name]
        write_run(tmp_path, MAIN, "decay", "small", seed, history=values)
        write_run(tmp_path, MAIN, "vanilla", "small", seed, columns=older)  # an older record, without the column
    frame = figure1.compute(load(tmp_path))
    rows = pick(frame, quantity=name)
    assert set(rows["method"]) == ({"decay"} if shown else set())
    assert not shown or rows["mean"].tolist() == pytest.approx([0.2 + difference, 0.3, 0.5])
    assert ("Dash-dotted" in frame.attrs["caption"]) == shown
    with style.context():
        figure = figure1.draw(frame)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    plt.close(figure)
    assert ("test, recalibrated" in legend) == shown
    assert (
        any("recalibrated" in str(trace["name"]) for trace in figure1.panels(frame)[0]["data"] if "name" in trace)
        == shown
    )


def test_means_over_seeds_are_those_of_pandas_to_the_last_bit() -> None:
    random = np.random.default_rng(0)

    def history(epochs: list[float]) -> pd.DataFrame:
        values = random.normal(size=(2, len(epochs))) * 10.0 ** random.integers(-6, 6, len(epochs))
        return pd.DataFrame({"epoch": epochs, "gap": values[0], "test_accuracy": values[1]})

    histories = [history([0.5 * n for n in range(1, count)]) for count in (200, 198, 200, 150)]  # not of one length
    histories[1].loc[3, "gap"] = histories[2].loc[3, "gap"] = np.nan
    histories[0].loc[5, "gap"] = np.inf
    for each in histories:
        each.loc[7, "gap"] = np.nan  # no value at all
    result = SimpleNamespace(batch_size=64)
    records = [SimpleNamespace(history=each, result=result) for each in histories]
    cell: Any = SimpleNamespace(setting="s", regime="small", method="decay", finished=records, records=records)
    frame = plotted.over_seeds(cell, ["test_accuracy", "gap"])
    groups = pd.concat(histories).melt("epoch", var_name="quantity").groupby(["quantity", "epoch"])["value"]
    expected = groups.agg(mean="mean", low="min", high="max", n="count").reset_index()
    pd.testing.assert_frame_equal(frame[list(expected)], expected, check_exact=True)


def test_numbers_of_the_page_have_four_digits() -> None:
    assert traces.short([0.123456, np.nan, -1234567, np.inf, 3]) == [0.1235, None, -1235000.0, None, 3.0]
    assert traces.short([]) == []


def test_figures_drawn_at_once_are_those_drawn_one_by_one(folder: Path, tmp_path: Path) -> None:
    results, names = load(folder), ["1", "dose", "3", "summary"]
    outcomes = dict(render_all(names, results, tmp_path / "all"))
    assert list(outcomes) == names
    assert isinstance(outcomes["dose"], RecordError)
    for name in ("1", "3", "summary"):
        for path, alone in zip(outcomes[name], render(name, results, tmp_path / "alone"), strict=True):
            assert path.read_bytes() == alone.read_bytes()
