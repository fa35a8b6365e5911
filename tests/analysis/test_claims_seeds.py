"""Claims judged twice: which seeds count, what partial states say, malformed entries, and the power
calculation behind the number of seeds."""

import json
import re
import runpy
import shutil
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from analysis.claim_worlds import disagrees, fails, holds
from scipy.stats import nct
from scipy.stats import t as student
from synthetic import write_grid, write_run

from sns.analysis.cells import METHODS, REGIMES, load_results
from sns.analysis.claims import power, tables
from sns.analysis.claims import text as claims_text
from sns.analysis.claims.measures import Place
from sns.analysis.claims.seeds import Seeds, changed, judge, load_seeds
from sns.analysis.report import page as report
from sns.analysis.verify import page_faults
from sns.common.errors import UserError
from sns.record.store import read

ROOT = Path(__file__).resolve().parents[2]
MAIN = runpy.run_path(str(ROOT / "scripts" / "claims.py"))["main"]
SETTING, OTHER = "vgg_pocket", "densenet_pocket"
PLAN = load_seeds()["pocket"]


def grid(folder: Path, seeds: range, effect: Any, setting: str = SETTING) -> Path:
    return write_grid(folder, (setting,), seeds=seeds, effect=effect, epochs=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of pocket: seeds that disagree first, then seeds for which every claim holds, and
    seeds beyond the plan for which none does."""
    folder = tmp_path_factory.mktemp("whole") / "results/runs/pocket"
    grid(folder, range(PLAN.first), disagrees)
    grid(folder, range(PLAN.first, PLAN.fixed), holds)
    return grid(folder, range(PLAN.fixed, PLAN.fixed + 6), fails)


def without(whole: Path, folder: Path, setting: str, *seeds: int, method: str = "*") -> Path:
    """A copy of the runs less those of a setting and method with these seeds."""
    copy = Path(shutil.copytree(whole, folder / "results/runs/pocket"))
    for seed in seeds:
        for directory in copy.glob(f"{setting}__{method}__*__s{seed}__*"):
            shutil.rmtree(directory)
    return copy


def test_both_verdicts_are_those_of_exactly_their_seeds(whole: Path, tmp_path: Path) -> None:
    """The first one is that of the first runs alone, and no seed beyond the plan counts."""
    first, last = judge(load_results(whole))
    alone = load_results(grid(tmp_path / "runs/one", range(PLAN.first), disagrees))
    assert first.verdicts == judge(alone)[0].verdicts
    grid(tmp_path / "runs/one", range(PLAN.first, PLAN.fixed), holds)
    (every,) = judge(load_results(tmp_path / "runs/one"))
    assert last.verdicts == every.verdicts
    assert [(own.seeds, own.lacking) for own in (first, last)] == [(tuple(range(n)), "") for n in (3, 9)]
    assert (first.name, last.heading) == ("n = 3", "n = 9")
    assert [v.id for v, _ in changed((first, last))] == [v.id for v in last.verdicts if v.verdict != "undecided"]
    assert {v.verdict for v in first.verdicts} == {"undecided"} != {v.verdict for v in last.verdicts}


def test_files_show_both_verdicts_and_what_changed(whole: Path, tmp_path: Path) -> None:
    results = load_results(whole)
    (first, last), _ = claims_text.write(results, tmp_path)
    page, plain = (tmp_path / "claims.md").read_text(), claims_text.to_plain((first, last))
    differ = {last.id for _, last in changed((first, last))}
    same = next(v for v in last.verdicts if v.id not in differ)
    line = next(line for line in page.splitlines() if line.startswith("- Changed from n = 3 to n = 9: "))
    assert set(re.findall(r"\w+(?= \()", line)) == differ
    assert same.id not in line
    for text in (page, plain):
        assert line.removeprefix("- ") in text
        assert all(f"n = {len(own.seeds)}: {claims_text.counts(own.verdicts)}." in text for own in (first, last))
    assert "| section | claim | n = 3 | n = 9 | units holding |" in page
    frame = claims_text.to_frame((first, last))
    for own, end in ((first, "_n3"), (last, "_n9")):
        assert frame[f"verdict{end}"].tolist() == [v.verdict for v in own.verdicts]
        assert frame[f"n{end}"].tolist() == [v.n for v in own.verdicts]
        assert set(frame[f"seeds{end}"]) == {" ".join(map(str, own.seeds))}
    content = json.loads((tmp_path / "claims.json").read_text())
    assert [own["planned"] for own in content["judged"]] == [3, 9]
    assert {each["id"] for each in content["changed"]} == differ
    assert content["judged"][0]["claims"] == json.loads(json.dumps([asdict(v) for v in first.verdicts]))
    html = report.build(results, "pocket")
    article = html.split(f'id="claim-{sorted(differ)[0]}"')[1].split("</article>")[0]
    word = next(v.verdict for v in last.verdicts if v.id == sorted(differ)[0])
    assert "n = 3: ? undecided</span>" in article
    assert re.search(rf"n = 9: . {word}</span>", article)
    assert f"n = 9: {claims_text.counts(last.verdicts)}." in html


def test_a_partial_state_judges_common_seeds_and_says_provisional(whole: Path, tmp_path: Path) -> None:
    """Of one setting the seeds 6 to 8 are missing, and of one method of it seed 1 as well."""
    folder = grid(without(whole, tmp_path, "none"), range(PLAN.fixed), holds, OTHER)
    for name in [f"{OTHER}__*__s{seed}__*" for seed in (6, 7, 8)] + [f"{OTHER}__decay__*__s1__*"]:
        for directory in folder.glob(name):
            shutil.rmtree(directory)
    results = load_results(folder)
    first, last = judge(results)
    assert (first.seeds, first.lacking) == ((0, 2), "2 of 3 seeds so far")
    assert (last.seeds, last.lacking) == ((0, 2, 3, 4, 5), "5 of 9 seeds so far")
    assert {c.n for v in last.verdicts for c in v.comparisons} <= {0, 5}
    claims_text.write(results, tmp_path / "out")
    page = (tmp_path / "out" / "claims.md").read_text()
    assert "- n = 9 (provisional: 5 of 9 seeds so far): " in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith(("| 4.", "| A", "| B"))]
    assert len(rows) == len(last.verdicts)
    assert all("(provisional)" in cell for row in rows for cell in row[2:4])
    header = (tmp_path / "out" / "claims_by_setting.md").read_text().splitlines()[0]
    assert "small VGGNet, CIFAR-10 at 16x16, n = 9: " in header  # complete by itself
    assert "small DenseNet, CIFAR-100 at 16x16, n = 9 (provisional: 5 of 9 seeds so far): " in header
    counted = (tmp_path / "out" / "claims_counts.md").read_text().splitlines()
    assert [line.count("provisional: 5 of 9 seeds so far") for line in counted] == [0, 0, 1, 0, 1]
    assert set(claims_text.to_frame((first, last))["provisional_n9"]) == {"5 of 9 seeds so far"}
    assert " (provisional)</span>" in report.build(results, "pocket")
    leads = (tmp_path / "out" / "leads.md").read_text()
    assert [line.split(" | ")[2] for line in leads.splitlines()[2:]] == ["9", "9", "5", "5"]


def test_a_run_that_diverged_is_no_missing_seed(whole: Path, tmp_path: Path) -> None:
    folder = without(whole, tmp_path, SETTING, 4, method="spectral")
    for regime in REGIMES:
        write_run(folder, SETTING, "spectral", regime, 4, status="diverged", epochs=8)
    last = judge(load_results(folder))[-1]
    assert (len(last.seeds), last.lacking) == (9, "")
    claim = next(v for v in last.verdicts if v.id == "large_batch_spectral_best")
    assert {c.n for c in claim.comparisons} == {8}


def test_a_cell_without_runs_is_stated_and_no_common_seed_is_no_error(whole: Path, tmp_path: Path) -> None:
    folder = without(whole, tmp_path / "a", SETTING, *range(20), method="decay")
    last = judge(load_results(folder))[-1]
    assert (len(last.seeds), last.lacking) == (9, "2 of 8 cells not run")
    assert "decay, large: not run" in next(v for v in last.verdicts if v.id == "large_batch_spectral_best").reason
    apart = tmp_path / "b/runs/pocket"
    write_run(apart, SETTING, "vanilla", "small", 0)
    write_run(apart, SETTING, "spectral", "small", 1)
    last = judge(load_results(apart))[-1]
    assert (last.seeds, last.lacking) == ((), "0 of 9 seeds so far, 6 of 8 cells not run")
    assert {v.verdict for v in last.verdicts} == {"undecided"}
    write_run(tmp_path / "c/runs/pocket", SETTING, "newcomer")  # a method that no claim is about
    last = judge(load_results(tmp_path / "c/runs/pocket"))[-1]
    assert (last.seeds, last.lacking) == ((), "0 of 9 seeds so far, 8 of 8 cells not run")


@pytest.mark.parametrize(
    "entry",
    [
        *("{first: 3}", "{first: 3, fixed: 9, last: 10}", "{first: 9, fixed: 9}", "{first: 1, fixed: 9}"),
        *("{first: 3.0, fixed: 9}", "{first: 3, fixed: nine}", "{first: true, fixed: 9}", "[3, 9]", "9", "null"),
    ],
)
def test_a_malformed_entry_is_one_sentence(entry: str, tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(f"seeds: {{mine: {entry}}}\n")
    with pytest.raises(UserError, match=r"the seeds of mine must be two whole numbers") as raised:
        load_seeds(file)
    assert "\n" not in str(raised.value)
    file.with_name("none.yaml").write_text("claims: []\n")
    assert load_seeds(file.with_name("none.yaml")) == {}
    file.with_name("list.yaml").write_text(f"seeds: [{entry}]\n")
    with pytest.raises(UserError, match="seeds must name experiments"):
        load_seeds(file.with_name("list.yaml"))
    file.with_name("good.yaml").write_text("seeds: {mine: {fixed: 5, first: 2}}\n")
    assert load_seeds(file.with_name("good.yaml")) == {"mine": Seeds(first=2, fixed=5)}


ACCURACIES = {  # of seeds 0, 1, 2; spectral less vanilla in points: 2, 4, 3; decay: 1, 1, 2.5
    "vanilla": (0.50, 0.49, 0.51),
    "decay": (0.51, 0.52, 0.515),
    "spectral": (0.52, 0.53, 0.54),
}


def accuracies(folder: Path) -> Path:
    for method, values in ACCURACIES.items():
        for seed, value in enumerate((*values, 0.1, 0.9)):  # the last two came later
            write_run(folder, SETTING, method, "large", seed, test_accuracy=value, gap=0.9 - value)
    write_run(folder, SETTING, "adversarial", "large", 0, test_accuracy=0.5)  # one pair has no deviation
    return folder


def by_hand(sd: float, n: float) -> float:
    """Power of the two-sided paired t-test for a difference of 1, by the noncentral t."""
    limit, shift = student.ppf(0.975, n - 1), n**0.5 / sd
    return float(nct.sf(limit, n - 1, shift) + nct.cdf(-limit, n - 1, shift))


def test_power_by_hand(tmp_path: Path) -> None:
    frame = power.compute(load_results(accuracies(tmp_path / "runs/pocket"))).frame
    sds = [statistics.stdev(values) for values in ((2.0, 4.0, 3.0), (1.0, 1.0, 2.5))]
    expected = {"median": sum(sds) / 2, "pooled": ((sds[0] ** 2 + sds[1] ** 2) / 2) ** 0.5}
    assert frame["comparisons"].tolist() == [2] * 4
    for row in frame.to_dict("records"):  # the gap is .9 less the accuracy, so its deviations are the same
        sd = expected[row["deviation"]]
        assert row["sd"] == pytest.approx(sd, rel=1e-9)
        assert row["power_first"] == pytest.approx(by_hand(sd, PLAN.first), rel=1e-6)
        assert row["power_fixed"] == pytest.approx(by_hand(sd, PLAN.fixed), rel=1e-6)
        assert by_hand(sd, row["seeds"]) == pytest.approx(0.8, abs=1e-5)


def test_power_where_seeds_hardly_differ() -> None:
    assert [power.needed(sd) for sd in (0.0, 1e-4, 0.05)] == [2.0] * 3
    assert [power.power(sd, 3) for sd in (0.0, 1e-4, 0.1)] == [1.0] * 3


def test_power_needs_a_plan_and_pairs(tmp_path: Path) -> None:
    write_grid(tmp_path / "runs/mine", (SETTING,), seeds=range(3))
    with pytest.raises(UserError, match=r"an experiment that results/paper/claims\.yaml has seeds for"):
        power.compute(load_results(tmp_path / "runs/mine"))
    write_run(tmp_path / "runs/pocket", SETTING, "spectral")
    with pytest.raises(UserError, match="no comparison of spectral"):
        power.compute(load_results(tmp_path / "runs/pocket"))


def test_the_head_of_the_claims_quotes_the_power_calculation() -> None:
    """The numbers that fixed the number of seeds, from the committed records."""
    text = (ROOT / "results/paper/claims.yaml").read_text().partition("\nseeds:")[0]
    head = " ".join(line.removeprefix("#").strip() for line in text.splitlines())
    frame = power.compute(load_results(ROOT / "results/runs/pocket")).frame.set_index(["quantity", "deviation"])
    sd = {key: f"{value:.2f}".removeprefix("0") for key, value in frame["sd"].items()}
    seeds = frame["seeds"]
    accuracy, gap = "test_accuracy", "gap"
    assert f"over the {frame['comparisons'].iloc[0]} comparisons" in head
    assert f"is {sd[accuracy, 'median']} points of test accuracy and {sd[gap, 'median']} points of the last gap" in head
    assert f"needs 6 seeds ({seeds[accuracy, 'median']:.1f}) for accuracy and 9 ({seeds[gap, 'median']:.1f})" in head
    pooled = ", ".join(sd[quantity, "pooled"] for quantity in (accuracy, gap))
    assert f"At the pooled deviations ({pooled};" in head
    needed = " and ".join(f"{seeds[quantity, 'pooled']:.2f}" for quantity in (accuracy, gap))
    assert f"11 and 12 would be needed ({needed})" in head
    assert (PLAN.first, PLAN.fixed) == (3, 9)


def test_the_script_writes_a_power_page_that_verify_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    accuracies(results / "runs/pocket")
    arguments = [str(results), "--experiment", "pocket", "--power"]
    assert MAIN(arguments) == 0
    printed = capsys.readouterr().out
    page = results / "pocket" / "power.md"
    assert page.read_text() in printed
    assert {file.name for file in page.parent.iterdir()} == {"power.md", "power.csv"}
    assert list(page_faults(results)) == []
    page.write_text(page.read_text().replace("0.8", "0.9"))
    (fault,) = page_faults(results)
    assert f"renew it with python scripts/claims.py {results} --experiment pocket --power" in fault
    write_run(results / "runs/other", SETTING)
    assert MAIN([str(results), "--experiment", "other", "--power"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_leads_and_means_by_hand(tmp_path: Path) -> None:
    results = load_results(accuracies(tmp_path / "runs/mine"))  # without a plan: all five seeds
    lead = tables.leads(results, "test_accuracy")[Place(SETTING, "large", "vanilla")]
    assert (lead.mean, lead.n) == (pytest.approx((2 + 4 + 3 + 0 + 0) / 5), 5)
    half = 2.7764451 * statistics.stdev([2.0, 4.0, 3.0, 0.0, 0.0]) / 5**0.5  # t(4)
    assert (lead.low, lead.high) == (pytest.approx(lead.mean - half), pytest.approx(lead.mean + half))
    row = tables.leads_table(results).splitlines()[2]
    assert row.startswith("| small VGGNet, CIFAR-10 at 16x16 | 512 | 1-5 | +1.8 (-0.4, 4.0) | ")
    assert row.endswith("| – |")  # a single pair has no interval
    means = tables.means_table(results).splitlines()
    run = read(next((tmp_path / "runs/mine").glob("*adversarial*")))
    assert means[0] == f"| means over seeds, last evaluation |  | n | {' | '.join(METHODS)} |"
    assert means[2].startswith("| small VGGNet, CIFAR-10 at 16x16, B = 512 | training accuracy | 1-5 | 0.900 | 0.900 |")
    assert f" | {run.result.final['test_gradient_norm']:#.3g} | " in means[3]
    assert means[5] == "|  | largest Hessian eigenvalue, training | 1-5 | 20.0 | 20.0 | 20.0 | 20.0 |"
