"""SN-GAN's runs, table, questions, figures and page, from records with chosen numbers."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis import sngan_worlds as made
from conftest import ROOT
from matplotlib import pyplot as plt
from scipy import stats

from sns.analysis import verify
from sns.analysis.bakeoff.questions import Answer, load_questions
from sns.analysis.bakeoff.text import rows
from sns.analysis.cells import Results, load_results
from sns.analysis.figures import sngan_scores, sngan_spectra, style
from sns.analysis.report import sngan as report
from sns.analysis.sngan import runs, table, text
from sns.common.errors import RecordError

QUESTIONS = {question.id: question for question in load_questions(text.RULES)}
WORLDS = {"holds": "supported", "fails": "contradicted"}
OPPOSITE = {"supported": "contradicted", "contradicted": "supported"}
UNTESTED = ("trains_everywhere", "rivals_break_down", "penalty_trains_everywhere", "cost")


class Worlds(dict[str, Results]):
    """The results of a world by its name; written at the first use."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> Results:
        self[name] = load_results(
            made.write_world(self.root / name / "runs/sngan_pocket", getattr(made, name)), runs.TASK
        )
        return self[name]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return Worlds(tmp_path_factory.mktemp("worlds"))


def answered(results: Results, speeds: dict[str, table.Cost] | None = None) -> dict[str, list[Answer]]:
    return {q.id: list(a) for q, a in text.answer_all(results, made.costs(made.COSTS if speeds is None else speeds))}


def run_at(frame: pd.DataFrame, method: str, optimizer: str, seed: int = 0) -> pd.Series:
    own = frame[(frame["method"] == method) & (frame["optimizer"] == optimizer) & (frame["seed"] == seed)]
    assert len(own) == 1
    return own.iloc[0]


@pytest.mark.parametrize("world", WORLDS)
def test_every_question_has_the_verdict_of_its_world(worlds: Worlds, world: str) -> None:
    """The penalty trains everywhere exactly where the rivals do."""
    found = answered(worlds[world], made.COSTS if world == "holds" else made.SLOW)
    assert list(found) == list(QUESTIONS)
    for name, several in found.items():
        verdict = WORLDS[world]
        expected = OPPOSITE[verdict] if name == "penalty_trains_everywhere" else verdict
        assert {answer.verdict for answer in several} == {expected}, name
        assert len(several) == max(1, len(QUESTIONS[name].methods)), name


def test_what_depends_on_the_seed_is_undecided(worlds: Worlds) -> None:
    found = answered(worlds["disagrees"], {})
    for name in set(QUESTIONS) - {*UNTESTED, "loses_less"}:
        assert {answer.verdict for answer in found[name]} == {"undecided"}, name
    (tie,) = found["trains_everywhere"]
    assert tie.reason.startswith("a tie: adam_")
    (cost,) = found["cost"]
    assert cost.reason.startswith("missing: spectral_normalization: not measured")


def test_a_margin_is_the_paired_t_test_over_adam_settings_and_seeds(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    values = {name: random.uniform(50, 90, (6, 2)) for name in ("vanilla", "spectral_normalization")}

    def numbers(method: str, optimizer: str, seed: int) -> dict[str, float]:
        return {"distance": float(values[method][list(runs.ADAM).index(optimizer), seed]), "score": 5.0}

    folder = made.write_world(tmp_path / "runs/sngan_pocket", numbers, methods=values)
    several = answered(load_results(folder, runs.TASK))["better_overall"]
    (vanilla,) = [answer for answer in several if answer.method == "vanilla"]
    (pooled,) = vanilla.comparisons
    logs = {name: np.log2(own).ravel() for name, own in values.items()}
    expected = stats.ttest_rel(logs["vanilla"], logs["spectral_normalization"], alternative="greater")
    assert (pooled.p_holds, pooled.n) == (pytest.approx(expected.pvalue, rel=1e-6), 12)
    assert [local.part for local in vanilla.local] == list(runs.ADAM)
    at_d = vanilla.local[3].comparisons[0]
    assert at_d.margin == pytest.approx(float(np.mean((logs["vanilla"] - logs["spectral_normalization"])[6:8])))
    head, _ = rows(several)
    assert head[4] == "small CNN GAN, adam_a"
    assert all("wgan_gp, adam_a: not run" in a.reason for a in several if a.method == "wgan_gp")


def test_a_count_is_decided_in_each_adam_setting_and_a_tie_is_open(tmp_path: Path) -> None:
    def numbers(method: str, optimizer: str, seed: int) -> dict[str, float]:
        bad = optimizer == "adam_f" and (method == "gan_gp" or seed == 0)
        return {"distance": 500.0 if bad else 100.0, "score": 5.0}

    folder = made.write_world(tmp_path / "runs/sngan_pocket", numbers, ("gan_gp", "wgan_gp", "spectral_normalization"))
    found = answered(load_results(folder, runs.TASK))
    rivals = {answer.method: answer for answer in found["rivals_break_down"]}
    assert [local.state for local in rivals["gan_gp"].local] == ["fails", "fails", "holds"]
    assert [local.state for local in rivals["wgan_gp"].local] == ["fails", "fails", "open"]
    assert [rivals[name].verdict for name in ("gan_gp", "wgan_gp")] == ["supported", "undecided"]
    assert rivals["wgan_gp"].reason == "a tie: adam_f"
    assert found["trains_everywhere"][0].verdict == "undecided"
    assert {
        (c.n, c.p_holds) for answer in rivals.values() if answer.method in made.METHODS[2:4] for c in answer.comparisons
    } == {(6, None)}


def test_the_cost_rule_separates_slowest_and_fastest_rounds(worlds: Worlds) -> None:
    (cost,) = answered(worlds["holds"])["cost"]
    assert [(c.margin, c.low, c.high) for c in cost.comparisons] == [
        pytest.approx((0.15, 0.10, 0.20)),
        pytest.approx((0.40, 0.30, 0.50)),
    ]
    near = {**made.COSTS, "wgan_gp": table.Cost(1.2, 1.1, 1.3)}
    assert answered(worlds["holds"], near)["cost"][0].verdict == "undecided"


def test_runs_that_broke_down_are_marked_by_the_rule(worlds: Worlds) -> None:
    """The reference of this world is 100 (1.005 in the geometric mean over seeds), the bar 201."""
    frame = runs.compute(worlds["holds"])
    assert list(frame.columns) == runs.COLUMNS
    assert 2 ** runs.reference(frame) == pytest.approx(100 * math.sqrt(1.01))
    states = {name: run_at(frame, name, "adam_d")["state"] for name in made.METHODS}
    assert states.pop("spectral_normalization") == "ok"
    assert (states.pop("vanilla"), states.pop("weight_clipping")) == ("collapsed", "diverged")
    assert set(states.values()) == {"far"}
    assert set(frame[frame["optimizer"].isin(runs.MILD)]["state"]) == {"ok"}
    assert (frame["broken_down"] == (frame["state"] != "ok")).all()
    lost = run_at(frame, "weight_clipping", "adam_d")
    assert math.isnan(lost["distance"])
    assert (lost["log2_frechet"], lost["image_score"]) == (pytest.approx(math.log2(808)), pytest.approx(5.99))
    far = run_at(frame, "gan_gp", "adam_e", seed=1)
    assert far["loss_of_score"] == pytest.approx(3)  # 8 times the distance
    assert run_at(frame, "spectral_normalization", "adam_f")["loss_of_score"] == 0


def test_only_runs_beyond_twice_the_median_of_the_best_mild_settings_are_far(tmp_path: Path) -> None:
    folder = tmp_path / "runs/sngan_pocket"
    for method, optimizer, distance in (
        ("vanilla", "adam_a", 100.0),
        ("gan_gp", "adam_b", 40.0),
        ("gan_gp", "adam_c", 160.0),
        ("wgan_gp", "adam_a", 50.0),
        ("wgan_gp", "adam_d", 99.0),
        ("wgan_gp", "adam_e", 20.0),
        ("gan_gp", "adam_d", 101.0),
    ):
        made.one(folder, method, optimizer, 0, distance=distance, score=5.0)
    frame = runs.compute(load_results(folder, runs.TASK))  # the median of 100, 40 and 50 is 50
    far = frame[frame["state"] == "far"]
    assert far[["method", "optimizer"]].to_numpy().tolist() == [["gan_gp", "adam_c"], ["gan_gp", "adam_d"]]
    assert run_at(frame, "wgan_gp", "adam_d")["loss_of_score"] == pytest.approx(math.log2(99 / 50))
    assert math.isnan(run_at(frame, "gan_gp", "adam_d")["loss_of_score"])  # not run under A
    assert runs.best(frame)[made.SETTING, "gan_gp"] == "adam_b"


def test_fid_decides_where_every_run_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs/sngan"
    given = {"distance": 90.0, "score": 4.0}
    made.one(folder, "vanilla", "adam_a", 0, fid=30.0, inception_score=7.0, **given)
    made.one(folder, "gan_gp", "adam_a", 0, fid=40.0, inception_score=6.0, **given)
    frame = runs.compute(load_results(folder, runs.TASK))
    assert (frame["distance"].tolist(), frame.attrs["distance"]) == ([30.0, 40.0], "FID")
    made.one(folder, "wgan_gp", "adam_a", 0, **given)
    frame = runs.compute(load_results(folder, runs.TASK))
    assert (frame["score"].tolist(), frame.attrs["score"]) == ([4.0, 4.0, 4.0], "classifier score")


def test_the_table_has_each_method_in_its_best_setting(worlds: Worlds) -> None:
    frame = runs.compute(worlds["holds"])
    found = table.compute(frame, made.costs(made.COSTS))
    assert found["row"].tolist()[:10] == list(made.METHODS)
    own = found[found["row"] == "wgan_gp"].iloc[0]
    assert (own["optimizer"], own["n"], own["runs"]) == ("adam_a", 2, 2)
    assert own["classifier_frechet_mean"] == pytest.approx(100.5)
    assert own["classifier_frechet_sd"] == pytest.approx(math.sqrt(0.5))
    assert own["imagenet_frechet_mean"] == pytest.approx(2010)
    assert own["broken"] == "A 0/2, B 0/2, C 0/2, D 2/2, E 2/2, F 2/2"
    assert (own["cost"], own["paper_is"], own["paper_fid"]) == (1.5, 6.68, 40.2)
    head, lines = table.texts(found)
    assert not {"FID", "inception score"} & {*head}  # no such score in these records
    assert lines[3] == [
        *("wgan_gp", "A", "2", "100 ± 0.71", "6.00 ± 0.0071", "2,010 ± 14"),
        *(own["broken"], "1.50x", "6.68 / 40.2"),
    ]
    assert lines[10][0] == "real data"
    page = table.to_markdown((found, frame))
    assert "| weight_clipping | 100 ± 0.71 | 100 ± 0.71 | 100 ± 0.71 | – ✗✗ | – ✗✗ | – ✗✗ |" in page
    assert "neither FID nor inception score" in page


def test_a_run_with_the_hinge_loss_stands_beside_the_papers_hinge_row(tmp_path: Path) -> None:
    for setting, loss in (("sngan_cifar10", "hinge"), ("sngan_resnet_stl10", "hinge"), ("sngan_stl10", "logistic")):
        numbers = {"distance": 9.0, "score": 1.0}
        made.one(tmp_path / "x", "spectral_normalization", "adam_c", 0, setting=setting, loss=loss, **numbers)
    found = table.compute(runs.compute(load_results(tmp_path / "x", runs.TASK)))
    ours = found[found["method"].notna()].set_index("setting")
    assert ours.loc["sngan_cifar10", ["paper_is", "paper_fid"]].tolist() == [7.58, 25.5]
    assert ours.loc["sngan_resnet_stl10", ["paper_is", "paper_fid"]].tolist() == [9.10, 40.1]
    assert ours.loc["sngan_stl10", ["paper_is", "paper_fid"]].tolist() == [8.28, 53.1]


def test_the_printed_table_has_every_row_of_both_data_sets() -> None:
    paper = table.paper_table().set_index(["data_set", "row"])
    assert len(paper) == 24
    assert paper["fid"].isna().sum() == 3
    fids = paper["fid"].xs("CIFAR-10").drop("real data")
    assert fids.loc["orthonormal"] < fids.loc["spectral_normalization"]  # the printed order, 29.0 and 29.3
    assert fids.idxmin() == "spectral_normalization, ResNet, hinge"


def test_variants_are_not_averaged(tmp_path: Path) -> None:
    given = {"distance": 90.0, "score": 4.0}
    for seed in (0, 1):
        made.one(tmp_path / "x", "vanilla", "adam_a", seed, **given)
        made.one(tmp_path / "x", "vanilla", "adam_b", seed, **given)
    made.one(tmp_path / "x", "vanilla", "adam_a", 2, loss="hinge", **given)
    results = load_results(tmp_path / "x", runs.TASK)
    frame = runs.compute(results)
    assert frame["optimizer"].tolist() == ["adam_a", "adam_a", "adam_b", "adam_b"]
    (warning,) = runs.warnings(results)
    assert "task.loss=hinge" in warning


def test_the_score_figure_marks_every_run(worlds: Worlds) -> None:
    frame = sngan_scores.compute(worlds["holds"])
    assert list(frame.columns) == sngan_scores.COLUMNS
    distances = frame[frame["quantity"] == "distance"]
    assert len(distances) == 120
    diverged = distances[distances["state"] == "diverged"]
    assert (len(diverged), set(diverged["value"])) == (6, {808.0})
    assert frame.attrs["bars"][made.SETTING] == pytest.approx(200 * math.sqrt(1.01))
    with style.context():
        figure = sngan_scores.draw(frame)
        for axes in figure.axes:
            assert [label.get_text() for label in axes.get_xticklabels()] == list("ABCDEF")
            counted = dict.fromkeys(sngan_scores.BROKEN.values(), 0)
            for line in axes.lines:
                if line.get_marker() in counted:
                    counted[line.get_marker()] += len(line.get_xdata())
            assert counted == {"x": 42, "+": 6, "1": 6}
        plt.close(figure)
    first, second = sngan_scores.panels(frame)
    assert first["layout"]["yaxis"]["type"] == "log"
    assert [len(trace["x"]) for trace in second["data"]] == [12] * 10
    assert second["data"][0]["text"][6] == "vanilla, adam_d, seed 0: collapsed"


def test_the_spectra_are_squared_and_scaled_and_their_mean_is_the_flatness(worlds: Worlds) -> None:
    results = worlds["holds"]
    frame = sngan_spectra.compute(results)
    assert list(frame.columns) == sngan_spectra.COLUMNS
    assert set(frame["method"]) == {*made.METHODS}
    own = frame[frame["method"] == "spectral_normalization"]
    assert (own[own["index"] == 0]["mean"] == 1).all()
    first = own[own["layer"] == "features.0.weight"]["mean"].to_numpy()
    assert first == pytest.approx(np.exp(-2 * 0.5 * np.arange(16) / 16))
    means = own.groupby("layer")["mean"].mean()
    assert means.mean() == pytest.approx(run_at(runs.compute(results), "spectral_normalization", "adam_a")["flatness"])
    with style.context():
        figure = sngan_spectra.draw(frame)
        assert [axes.get_title() for axes in figure.axes[:5]] == [
            *(f"layer features.{number}" for number in (0, 3, 6, 9)),
            "layer classifier",
        ]
        plt.close(figure)
    assert len(sngan_spectra.panels(frame)) == 5


def test_figures_and_table_are_for_gans_alone(tmp_path: Path) -> None:
    made.write_run(tmp_path / "x", "vgg_cifar10")
    results = load_results(tmp_path / "x")
    for module in (sngan_scores, sngan_spectra):
        assert module.OPTIONAL
        with pytest.raises(RecordError, match="no run of a GAN"):
            module.compute(results)


def test_the_page_has_answers_figures_and_samples(worlds: Worlds, tmp_path: Path) -> None:
    page = report.build(worlds["holds"], "sngan_pocket")
    assert all(question.text in page for question in QUESTIONS.values())
    assert "small CNN GAN, CIFAR-10 at 16x16, vanilla, D, seed 0: collapsed." in page
    assert "No run of these has samples." in page
    folder = made.write_world(tmp_path / "x", made.holds, ("gan_gp",), (0,), samples=b"image")
    results = load_results(folder, runs.TASK)
    shown = report.samples(results, runs.compute(results))
    assert [own["title"] for own in shown] == ["gan_gp, A (best), seed 0", "gan_gp, F (worst), seed 0"]
    assert "data:image/png;base64,aW1hZ2U=" in report.build(results, "x")


def test_the_script_writes_what_verify_computes_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write_world(tmp_path / "runs/sngan_pocket", made.holds)
    spec = importlib.util.spec_from_file_location("sngan_script", ROOT / "scripts/sngan.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["all", str(tmp_path)]) == 0
    assert "| wgan_gp | A | 2 |" in capsys.readouterr().out
    out = tmp_path / "sngan_pocket"
    assert {path.name for path in out.iterdir()} == {
        *("table2.md", "table2.csv", "runs.csv", "answers.md", "answers.csv", "report.html"),
        *(f"figure{name}.{end}" for name in report.FIGURES for end in ("png", "pdf", "csv", "txt")),
    }
    assert list(verify.page_faults(tmp_path)) == []
    page = out / "table2.md"
    page.write_text(page.read_text().replace("40.2", "30.2"))
    (fault,) = verify.page_faults(tmp_path)
    assert fault.endswith(f"renew it with python scripts/sngan.py all {tmp_path} --experiment sngan_pocket")


def test_a_malformed_rule_is_refused(tmp_path: Path) -> None:
    content = text.RULES.read_text()
    for old, new, says in (
        ("test: count", "test: coin", "unknown test"),
        ("measure: broken_down", "measure: broken", "broken"),
        ("pairs: [setting, optimizer", "pairs: [setting, mood", "t-test"),
        ("[spectral > spectral_normalization]", "[spectre > spectral_normalization]", "spectre"),
    ):
        path = tmp_path / f"{new[:4]}{len(new)}.yaml"
        assert old in content
        path.write_text(content.replace(old, new, 1))
        with pytest.raises(ValueError, match=says):
            load_questions(path)
