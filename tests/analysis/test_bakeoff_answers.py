"""The questions to the comparison of all methods in every verdict, its table, figure and section of
the report."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from analysis import bakeoff_worlds as made
from matplotlib import pyplot as plt
from scipy import stats as scipy_stats

from sns.analysis import verify
from sns.analysis.bakeoff import table, text
from sns.analysis.bakeoff.costs import Cost, costs
from sns.analysis.bakeoff.questions import RULES, Answer, Experiment, answers, load_questions
from sns.analysis.cells import Results, load_results
from sns.analysis.claims.measures import Measured, Place
from sns.analysis.claims.rules import Comparison, conjunction, decide_conjunctions, decide_tests
from sns.analysis.figures import methods, style
from sns.analysis.report.comparison import comparison
from sns.analysis.stats import spearman
from sns.common.errors import RecordError

QUESTIONS = {question.id: question for question in load_questions()}
ALONE = [q.id for q in QUESTIONS.values() if q.expect and not q.methods and q.experiments == ("bakeoff",)]
EACH = [q.id for q in QUESTIONS.values() if q.expect and q.methods]
OPTIM = [q.id for q in QUESTIONS.values() if q.experiments == ("bakeoff_optim",)]
VERDICTS = {"holds": "supported", "fails": "contradicted", "disagrees": "undecided"}


class Worlds(dict[str, Results]):
    """The results of a world by its name, "holds" or "holds, optim"; written at the first use."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, key: str) -> Results:
        name, _, optim = key.partition(", ")
        if optim:
            folder = made.write_optim(self.root / key / "runs/bakeoff_optim", getattr(made, f"muon_{name}"))
        else:
            seeds = (*made.SEEDS, 4) if name == "disagrees" else made.SEEDS  # as many even as odd ones
            folder = made.write_world(self.root / key / "runs/bakeoff", getattr(made, name), seeds=seeds)
        self[key] = load_results(folder)
        return self[key]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return Worlds(tmp_path_factory.mktemp("worlds"))


def answered(results: Results, question: str) -> list[Answer]:
    return answers(Experiment(results), QUESTIONS[question])


def of(results: Results, question: str, method: str) -> Answer:
    return next(answer for answer in answered(results, question) if answer.method == method)


def test_the_file_asks_what_it_says() -> None:
    assert len(EACH) == 3
    assert len(ALONE) == 3
    assert len(OPTIM) == 2
    assert QUESTIONS["cost"].expect == ()
    assert len(made.METHODS) == 18


@pytest.mark.parametrize("world", VERDICTS)
@pytest.mark.parametrize("question", EACH)
def test_a_question_to_each_method_has_every_verdict(worlds: Worlds, question: str, world: str) -> None:
    """A method that the rule names (spectral) is not compared with itself."""
    several = answered(worlds[world], question)
    left = {"spectral"} if question == "beats_spectral" else set()
    assert {answer.method for answer in several} == set(QUESTIONS[question].methods) - left
    assert {answer.verdict for answer in several} == {VERDICTS[world]}
    runs = 8 if world == "disagrees" else 6  # two places of three or four seeds
    assert {c.n for answer in several for c in answer.comparisons} == {runs}
    if world == "disagrees":
        assert all("the interval includes zero" in answer.reason for answer in several)
    else:
        assert {local.state for answer in several for local in answer.local} == {world}


@pytest.mark.parametrize("world", VERDICTS)
@pytest.mark.parametrize("question", ALONE)
def test_a_question_over_methods_has_every_verdict(worlds: Worlds, question: str, world: str) -> None:
    (answer,) = answered(worlds[world], question)
    assert (answer.method, answer.verdict) == (None, VERDICTS[world])


@pytest.mark.parametrize("world", VERDICTS)
@pytest.mark.parametrize("question", OPTIM)
def test_a_question_about_optimizers_has_every_verdict(worlds: Worlds, question: str, world: str) -> None:
    (answer,) = answered(worlds[f"{world}, optim"], question)
    assert answer.verdict == VERDICTS[world]
    assert [c.n for c in answer.comparisons] == [3, 3]


def test_muon_gains_are_compared_with_those_of_nesterov(tmp_path: Path) -> None:
    """The second inequality alone refutes: .005 gained under Muon, less under Nesterov."""

    def accuracy(method: str, optimizer: str, seed: int) -> float:
        gain = {"muon": 0.005, "nesterov": 0.001}.get(optimizer, 0.0) if method == "spectral" else 0.0
        return 0.5 + seed / 1000 + gain

    folder = made.write_optim(tmp_path / "runs/bakeoff_optim", accuracy)
    (answer,) = answered(load_results(folder), "muon_makes_spectral_redundant")
    assert [c.margin for c in answer.comparisons] == pytest.approx([0.005, -0.004])
    assert answer.verdict == "contradicted"


def test_a_margin_is_the_paired_t_test_over_settings_batches_and_seeds(tmp_path: Path) -> None:
    random = {"sam": [0.52, 0.55, 0.53, 0.41, 0.44, 0.40], "decay": [0.50, 0.52, 0.53, 0.38, 0.43, 0.40]}
    for method, values in random.items():
        for number, value in enumerate(values):
            setting, regime = made.PLACES[number // 3]
            own = {"accuracy": value, "gap": 0.1, "sigma": 1.0, "jacobian": 1.0}
            made.one(tmp_path / "bakeoff", setting, regime, method, number % 3, own)
    answer = of(load_results(tmp_path / "bakeoff"), "beats_decay", "sam")
    (pooled,) = answer.comparisons
    expected = scipy_stats.ttest_rel(random["sam"], random["decay"], alternative="greater")
    interval = scipy_stats.ttest_rel(random["sam"], random["decay"]).confidence_interval(0.95)
    assert pooled.p_holds == pytest.approx(expected.pvalue, rel=1e-9)
    assert (pooled.low, pooled.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert [local.comparisons[0].margin for local in answer.local] == pytest.approx([0.05 / 3, 0.04 / 3])
    assert {local.state for local in answer.local} == {"open"}


def test_what_was_not_run_is_named_and_leaves_the_answer_open(tmp_path: Path) -> None:
    few = ("vanilla", "decay", "sam", "spectral")
    folder = made.write_world(tmp_path / "bakeoff", made.holds, methods=few)
    run = next(folder.glob("nin_pocket__sam__*__s3__*/result.json"))
    run.write_text(run.read_text().replace('"status": "ok"', '"status": "diverged"'))
    results = load_results(folder)
    assert of(results, "beats_decay", "spectral").verdict == "supported"
    sam = of(results, "beats_decay", "sam")
    assert sam.verdict == "undecided"
    assert sam.reason == "missing: nin_pocket, sam, large: 2 of 3 seeds, 1 diverged or failed"
    assert [local.state for local in sam.local] == ["holds", "open"]
    assert "unit_sigma, small: not run" in of(results, "beats_decay", "unit_sigma").reason
    (rank,) = answered(results, "sigma_explains_gap")
    assert rank.verdict == "undecided"
    assert "not run" in rank.reason


def test_ranks_over_methods_leave_out_what_diverged(worlds: Worlds) -> None:
    results = worlds["holds"]
    place = Place("vgg_pocket", "small")
    rho = Measured(results).values("methods_sigma_gap", place)[1]
    numbers = {method: made.holds(method, 1) for method in made.METHODS}
    columns = [[own[name] for own in numbers.values()] for name in ("sigma", "gap")]
    assert rho == pytest.approx(spearman(*columns).rho)
    cells = []
    for cell in results.cells:
        lost = cell.method == "sam" and cell.setting == "vgg_pocket"
        records = [replace(r, result=replace(r.result, status="diverged")) if lost else r for r in cell.records]
        cells.append(replace(cell, records=tuple(records)))
    columns = [[own[name] for method, own in numbers.items() if method != "sam"] for name in ("sigma", "gap")]
    fewer = Measured(replace(results, cells=tuple(cells))).values("methods_sigma_gap", place)
    assert fewer[1] == pytest.approx(spearman(*columns).rho)
    assert Measured(results, [*made.METHODS, "another"]).values("methods_sigma_gap", place) == {}


def comparisons(*p_holds: float | None) -> list[Comparison]:
    return [Comparison("u", 0, "gap", "a > b", 0.1, 0.0, 0.2, 3, p, None if p is None else 1 - p, ()) for p in p_holds]


def test_holm_runs_over_the_groups_and_a_group_is_judged_by_its_weakest() -> None:
    decide = decide_conjunctions
    assert decide([comparisons(0.02)], 0.95) == ["holds"]
    assert decide([comparisons(0.02), comparisons(0.5)], 0.95) == ["open", "open"]  # .02 * 2 > .025
    assert decide([comparisons(0.01), comparisons(0.02)], 0.95) == ["holds", "holds"]  # Holm, not Bonferroni
    assert decide([comparisons(0.001, 0.03)], 0.95) == ["open"]
    assert decide([comparisons(0.001, 0.98)], 0.95) == ["open"]  # .02 * 2 > .025
    assert decide([comparisons(0.001, 0.99)], 0.95) == ["fails"]
    assert decide([comparisons(0.99), comparisons(0.5)], 0.95) == ["fails", "open"]
    assert decide([comparisons(0.001, None), []], 0.95) == ["open", "open"]
    for ps in ((0.001, 0.02), (0.001, 0.03), (0.5, 0.98), (0.5, 0.99), (0.99, 0.995)):
        group = comparisons(*ps)
        assert decide([group], 0.95) == [conjunction(decide_tests(group, 0.95, one_of_several=False))]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("value > decay]", "value > dekay]", "unknown"),
        ("measure: gap", "measure: gab", "gab"),
        ("[setting, ", "[", "t-test"),
    ],
)
def test_a_malformed_question_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    content = RULES.read_text()
    assert old in content
    (tmp_path / "claims.yaml").write_text(content.replace(old, new, 1))
    with pytest.raises(ValueError, match=says):
        load_questions(tmp_path / "claims.yaml")


BENCH = {("vgg_pocket", 64, "sam"): Cost(2.0, 1.9, 2.1), ("nin_pocket", 416, "sam"): Cost(1.5, 1.4, 1.6)}


def test_the_table_has_the_mean_and_interval_of_every_cell(worlds: Worlds) -> None:
    frame = table.compute(worlds["holds"], BENCH)
    assert list(frame.columns) == table.COLUMNS
    assert len(frame) == 36
    row = frame[(frame["setting"] == "vgg_pocket") & (frame["method"] == "sam")].iloc[0]
    values = [made.holds("sam", seed) for seed in made.SEEDS]
    accuracies = [own["accuracy"] for own in values]
    low, high = scipy_stats.t.interval(0.95, 2, sum(accuracies) / 3, scipy_stats.sem(accuracies))
    assert (row["test_accuracy_mean"], row["n"]) == (pytest.approx(0.602), 3)
    assert (row["test_accuracy_low"], row["test_accuracy_high"]) == (pytest.approx(low), pytest.approx(high))
    assert row["train_accuracy_mean"] == pytest.approx(sum(v["accuracy"] + v["gap"] for v in values) / 3)
    for column, name in (("gap", "gap"), ("sigma_mean", "sigma"), ("jacobian_norm", "jacobian")):
        assert row[f"{column}_mean"] == pytest.approx(sum(own[name] for own in values) / 3), column
    assert (row["cost"], row["cost_low"], row["cost_high"]) == (2.0, 1.9, 2.1)
    first = frame[frame["setting"] == "vgg_pocket"]["test_accuracy_mean"].tolist()
    assert first == sorted(first, reverse=True)
    assert list(pd.read_csv(io.StringIO(table.to_csv(frame)))["gap_mean"]) == list(frame["gap_mean"])


def test_the_written_table_is_in_percent_and_shows_what_is_lost(tmp_path: Path) -> None:
    folder = made.write_world(tmp_path / "bakeoff", made.holds, made.PLACES[:1], ("vanilla", "sam"))
    run = next(folder.glob("vgg_pocket__vanilla__*__s3__*/result.json"))
    run.write_text(run.read_text().replace('"status": "ok"', '"status": "diverged"'))
    head, lines = table.texts(table.compute(load_results(folder), BENCH))
    assert head[:4] == ["method", "n", "test accuracy, %", "gap, points"]
    assert lines[0][:4] == ["sam", "3", "60.2 ± 0.2", "20.6 ± 0.0"]
    assert lines[0][-1] == "2.00x"
    assert lines[1][:2] == ["vanilla", "2 of 3"]
    assert lines[1][-1] == "–"


def test_costs_are_those_of_the_same_machine(tmp_path: Path) -> None:
    figure = {"median": 1.25, "low": 1.2, "high": 1.3, "count": 9}
    lines = [
        {"what": "sam update, vgg_pocket, B = 64", "figure": figure},
        {"what": "the rest of the row", "figure": None},
    ]
    for device, row in (("here", "12"), ("there", "12"), ("here", "5")):
        tree = {"environment": {"device": device}, "rows": {row: {"lines": lines}}}
        (tmp_path / f"{device}{row}.json").write_text(json.dumps(tree))
    assert costs({"here", "there"}, tmp_path) == {("vgg_pocket", 64, "sam"): Cost(1.25, 1.2, 1.3)}
    assert costs({"elsewhere"}, tmp_path) == {}


def test_optimizers_are_lines_of_the_table(worlds: Worlds) -> None:
    _, lines = table.texts(table.compute(worlds["holds, optim"], BENCH))
    assert len(lines) == 12
    assert ["spectral, nesterov", "3", "60.2 ± 0.2"] in [line[:3] for line in lines]
    assert ["spectral, muon", "3", "50.2 ± 0.2"] in [line[:3] for line in lines]


def test_the_pages_state_every_answer(worlds: Worlds, tmp_path: Path) -> None:
    text.write(worlds["holds"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("answers.md", "answers.csv", "methods.md", "comparison.md", "comparison.csv")
    }
    page = (tmp_path / "answers.md").read_text()
    assert all(question.text in page for question in QUESTIONS.values() if question.id in (*EACH, *ALONE))
    assert "| sam | ✓ supported | +10.0 [+10.0, +10.0] | 6 | ✓ +10.0 | ✓ +10.0 |  |" in page
    assert "16 supported, 0 contradicted, 0 undecided." in page
    rows = pd.read_csv(tmp_path / "answers.csv")
    own = rows[(rows["question"] == "beats_decay") & (rows["method"] == "sam")]
    assert own["corrected"].tolist() == [True, False, False]
    assert own["margin"].tolist() == pytest.approx([0.1, 0.1, 0.1])
    line = next(line for line in (tmp_path / "methods.md").read_text().splitlines() if line.startswith("| spectral |"))
    assert [cell.strip()[:6] for cell in line.split("|")[2:]] == ["✓ +5.0", "✓ +19.", "–", "–", ""]


def test_verify_computes_the_pages_again(worlds: Worlds, tmp_path: Path) -> None:
    shutil.copytree(worlds["holds, optim"].records[0].path.parent, tmp_path / "runs/bakeoff_optim")
    pages = tmp_path / "bakeoff_optim"
    text.write(load_results(tmp_path / "runs/bakeoff_optim"), pages)
    (pages / "claims.yaml").write_text("rules")
    assert list(verify.page_faults(tmp_path)) == []
    answer = pages / "answers.md"
    answer.write_text(answer.read_text().replace("supported", "contradicted", 1))
    (fault,) = verify.page_faults(tmp_path)
    assert fault.endswith(f"renew it with python scripts/bakeoff.py show {tmp_path} --experiment bakeoff_optim")


def test_the_figure_has_one_mark_and_one_name_a_method(worlds: Worlds) -> None:
    frame = methods.compute(worlds["holds"])
    assert list(frame.columns) == methods.COLUMNS
    sam = frame[(frame["method"] == "sam") & (frame["setting"] == "vgg_pocket")].iloc[0]
    half = scipy_stats.t.ppf(0.975, 2) * 0.001 / 3**0.5
    assert (sam["test_accuracy"], sam["gap"]) == (
        pytest.approx(0.602),
        pytest.approx(0.2102 + 0.0 * sam["n"], abs=0.01),
    )
    assert (sam["test_accuracy_low"], sam["test_accuracy_high"]) == (
        pytest.approx(0.602 - half),
        pytest.approx(0.602 + half),
    )
    with style.context():
        figure = methods.draw(frame)
        figure.canvas.draw()
        assert [axes.get_title() for axes in figure.axes] == [
            "small VGGNet, CIFAR-10 at 16x16, B = 64",
            "small NIN, CIFAR-100 at 16x16, B = 416",
        ]
        for axes in figure.axes:
            names = [label.get_text() for label in axes.texts if label.get_text()]
            assert sorted(names) == made.METHODS
            heights = [label.get_window_extent() for label in axes.texts if label.get_text()]
            assert not any(a.overlaps(b) for n, a in enumerate(heights) for b in heights[:n])
            marks = {(float(x.get_xdata()[0]), float(x.get_ydata()[0])) for x in axes.lines if x.get_zorder() == 3}
            assert len(marks) == 18
        plt.close(figure)


def test_each_optimizer_has_a_panel_of_its_own(tmp_path: Path) -> None:
    """A cell holds one variant only: marks of one panel would be of several optimizers."""
    results = load_results(made.write_optim(tmp_path / "bakeoff_optim", made.muon_holds))
    optimizers = sorted({record.result.optimizer for record in results.records})
    frame = methods.compute(results)
    assert len(optimizers) > 1
    assert f"{len(results.records)} runs, 3 a cell" in frame.attrs["caption"]
    names = sorted({record.result.method for record in results.records})
    titles = [panel["title"] for panel in methods.panels(frame)]
    assert titles == [f"small VGGNet, CIFAR-10 at 16x16, B = 64, {name}" for name in optimizers]
    assert all(sorted(part["method"]) == names for _, part in frame.groupby("optimizer"))


def test_eighteen_methods_look_different() -> None:
    assert len({style.look(name, made.METHODS) for name in made.METHODS}) == 18


def test_the_figure_is_for_more_than_the_papers_methods(tmp_path: Path) -> None:
    folder = made.write_world(tmp_path / "bakeoff", made.holds, methods=("vanilla", "decay", "spectral"))
    with pytest.raises(RecordError, match="experiment=bakeoff"):
        methods.compute(load_results(folder))


def test_the_report_has_a_section_for_this_experiment_alone(worlds: Worlds, tmp_path: Path) -> None:
    section = comparison(worlds["holds"])
    assert section is not None
    assert [question["id"] for question in section["questions"]] == [*EACH, *ALONE]
    assert section["questions"][0]["counts"] == "16 supported, 0 contradicted, 0 undecided"
    assert section["questions"][-1]["counts"] == "supported"
    assert [len(lines) for _, lines in section["tables"].values()] == [18, 18]
    made.write_world(tmp_path / "pocket", made.holds, methods=("vanilla", "decay"))
    assert comparison(load_results(tmp_path / "pocket")) is None


def test_the_rules_are_those_of_the_file() -> None:
    tree = yaml.safe_load(RULES.read_text())
    assert [entry["id"] for entry in tree["questions"]] == list(QUESTIONS)
    assert {q.minimum_seeds for q in QUESTIONS.values()} == {3}
