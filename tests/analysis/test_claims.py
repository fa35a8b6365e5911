"""Claims: every one in every verdict on records with known answers, the statistics by hand, the
paper's own table."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from analysis.claim_worlds import disagrees, fails, holds
from scipy import stats as scipy_stats
from synthetic import write_grid, write_run

from sns.analysis.cells import PAPER_SETTINGS, Results, arrange, load_results
from sns.analysis.claims import text as claims_text
from sns.analysis.claims import verdicts as claims
from sns.analysis.claims.claim import load_claims
from sns.analysis.claims.measures import DESCRIPTIONS, Measured, Place
from sns.analysis.claims.seeds import judge
from sns.common.errors import UserError
from sns.record.store import Record, read_all

CLAIMS = {claim.id: claim for claim in load_claims()}
ON_ALPHA = "every_method_exceeds_alpha"
ROOT = Path(__file__).resolve().parents[2]

# reproduction notes, section 3: what the printed Table 1 says
PRINTED = {
    "small_batch_decay_and_spectral_lead": "2 of 4 settings",
    "large_batch_spectral_best": "4 of 4 settings",
    "accuracy_falls_with_batch": "16 of 16 cells",
    "spectral_falls_least": "1 of 4 settings",
    "spectral_smallest_gap_but_stl": "5 of 6 rows",
    "decay_second_smallest_gap": "3 of 6 rows",
    "figure1_decay_gap_grows": "1 of 1 settings",
    "decay_gap_grows_everywhere": "1 of 4 settings",
    "appendix_gap_or_accuracy": "6 of 6 rows",
    "spectral_best_everywhere": "6 of 8 rows",
    "spectral_smallest_gap_everywhere": "5 of 8 rows",
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    root = tmp_path_factory.mktemp("worlds")
    plan = {"holds": (holds, 3), "fails": (fails, 3), "disagrees": (disagrees, 4), "single": (holds, 1)}
    made = {}
    for name, (effect, seeds) in plan.items():
        write_grid(root / name, ("densenet40_cifar100",), seeds=range(seeds), epochs=8, effect=effect)
        records, warnings = read_all(root / name)
        assert warnings == []
        every = [Record(r.path, replace(r.result, setting=setting)) for setting in PAPER_SETTINGS for r in records]
        made[name] = arrange(every)
    return made


def verdict_on(claim_id: str, results: Results, settings: tuple[str, ...] = PAPER_SETTINGS) -> claims.ClaimVerdict:
    return claims.judge_claim(CLAIMS[claim_id], Measured(results), settings)


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_every_claim_is_supported_where_it_holds(claim_id: str, worlds: dict[str, Results]) -> None:
    verdict = verdict_on(claim_id, worlds["holds"])
    assert (verdict.verdict, verdict.units_holding) == ("supported", verdict.units)
    assert verdict.missing == ()
    assert verdict.n == 3
    assert verdict.low is not None
    assert verdict.low > 0


@pytest.mark.parametrize("claim_id", [name for name in CLAIMS if name != ON_ALPHA])
def test_every_claim_is_contradicted_where_it_fails(claim_id: str, worlds: dict[str, Results]) -> None:
    verdict = verdict_on(claim_id, worlds["fails"])
    assert verdict.verdict == "contradicted"
    assert verdict.high is not None
    assert verdict.high < 0
    assert verdict.decisive in verdict.reason


@pytest.mark.parametrize("claim_id", [name for name in CLAIMS if name != ON_ALPHA])
def test_every_claim_is_undecided_where_seeds_disagree(claim_id: str, worlds: dict[str, Results]) -> None:
    verdict = verdict_on(claim_id, worlds["disagrees"])
    assert verdict.verdict == "undecided"
    assert verdict.missing == ()
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low <= 0 <= verdict.high
    assert "interval includes zero: " in verdict.reason


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_every_claim_is_undecided_with_one_seed_and_says_so(claim_id: str, worlds: dict[str, Results]) -> None:
    verdict = verdict_on(claim_id, worlds["single"])
    assert verdict.verdict == "undecided"
    assert "1 of 3 seeds" in verdict.reason
    assert verdict.n == 1
    assert verdict.low is None


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_every_claim_is_undecided_without_its_runs(claim_id: str, tmp_path: Path) -> None:
    other = "vgg_cifar10" if "vgg_cifar10" not in CLAIMS[claim_id].settings else "densenet22_stl10"
    other = other if other not in CLAIMS[claim_id].settings else "digits_vgg"
    write_run(tmp_path / "runs" / "x", other)
    verdict = verdict_on(claim_id, load_results(tmp_path))
    assert (verdict.verdict, verdict.n) == ("undecided", 0)
    assert "not run" in verdict.reason


@pytest.mark.parametrize(
    ("alphas", "expected"),
    [((0.99, 0.99, 0.99, 0.99), "contradicted"), ((0.7, 0.9, 0.7, 0.9), "undecided"), ((0.7,) * 4, "supported")],
)
def test_the_claim_on_alpha(alphas: tuple[float, ...], expected: str, tmp_path: Path) -> None:
    def effect(setting: str, method: str, regime: str, seed: int) -> dict[str, object]:
        return {"test_accuracy": 0.8, "alpha": alphas[seed]}

    write_grid(tmp_path / "runs" / "x", seeds=range(4), effect=effect)
    assert verdict_on(ON_ALPHA, load_results(tmp_path), ("vgg_cifar10",)).verdict == expected


@pytest.mark.parametrize(("claim_id", "count"), PRINTED.items())
def test_the_printed_table_gives_the_counts_of_the_notes(claim_id: str, count: str) -> None:
    numbers = count.split()
    assert claims.printed(CLAIMS[claim_id]) == ("supported" if numbers[0] == numbers[2] else "not supported", count)


def test_claims_on_curves_weights_and_hessian_are_not_in_the_printed_table() -> None:
    for claim in CLAIMS.values():
        if claim.section in ("4.2", "4.4", "B") or "hessian" in claim.id or claim.id == "training_accuracy_above_95":
            assert claims.printed(claim) == ("not in table", "")


def test_a_difference_is_the_paired_t_test_of_scipy(tmp_path: Path) -> None:
    spectral, decay = [0.91, 0.93, 0.92, 0.95], [0.90, 0.91, 0.92, 0.92]
    for seed, pair in enumerate(zip(spectral, decay, strict=True)):
        for method, accuracy in zip(("spectral", "decay"), pair, strict=True):
            write_run(tmp_path, method=method, regime="large", seed=seed, test_accuracy=accuracy)
    verdict = verdict_on("large_batch_spectral_best", load_results(tmp_path), ("vgg_cifar10",))
    comparison = next(c for c in verdict.comparisons if "decay" in c.inequality)
    expected = scipy_stats.ttest_rel(spectral, decay, alternative="greater")
    interval = scipy_stats.ttest_rel(spectral, decay).confidence_interval(0.95)
    assert comparison.p_holds == pytest.approx(expected.pvalue, rel=1e-9)
    assert (comparison.low, comparison.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert comparison.n == 4
    assert verdict.verdict == "undecided"


def test_pairs_are_made_over_common_seeds_only(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, "densenet40_cifar100", "spectral", "small", seed)
        write_run(tmp_path, "densenet40_cifar100", "vanilla", "small", seed + 1)
    verdict = verdict_on("spectral_lowers_test_gradient", load_results(tmp_path))
    assert verdict.comparisons[0].n == 2
    assert "2 of 3 seeds in common" in verdict.reason


def test_one_setting_refutes_although_the_others_were_not_run(tmp_path: Path) -> None:
    write_grid(tmp_path, ("nin_cifar100",), seeds=range(3), effect=fails, epochs=8)
    verdict = verdict_on("large_batch_spectral_best", load_results(tmp_path))
    assert verdict.verdict == "contradicted"
    assert any("vgg_cifar10" in text and "not run" in text for text in verdict.missing)


def test_diverged_runs_are_counted_and_not_averaged(tmp_path: Path) -> None:
    write_grid(tmp_path, ("densenet40_cifar100",), seeds=range(3), effect=holds, epochs=8)
    write_run(tmp_path, "densenet40_cifar100", "spectral", "small", 2, status="diverged", epochs=8)
    verdict = verdict_on("spectral_lowers_test_gradient", load_results(tmp_path))
    assert verdict.verdict == "undecided"
    assert "2 of 3 seeds, 1 diverged or failed" in verdict.reason


def test_a_damaged_layer_table_is_missing_not_fatal(tmp_path: Path) -> None:
    write_grid(tmp_path, ("densenet40_cifar100",), seeds=range(3), effect=holds, epochs=8)
    for file in tmp_path.glob("*spectral__b64__*/layers.csv"):
        file.write_text("layer,kind\n")
    verdict = verdict_on("spectral_spectrum_flat", load_results(tmp_path))
    assert verdict.verdict == "undecided"
    assert "3 without flatness" in verdict.reason


def test_other_settings_are_judged_and_labelled(tmp_path: Path) -> None:
    write_grid(tmp_path, ("digits_vgg",), seeds=range(3), effect=holds, epochs=8)
    (judged,) = judge(load_results(tmp_path))
    verdicts = judged.verdicts
    assert {verdict.verdict for verdict in verdicts} == {"supported"}
    assert {verdict.settings for verdict in verdicts} == {("digits_vgg",)}
    assert not any(verdict.on_paper_settings for verdict in verdicts)
    assert "nothing about the paper" in claims_text.scope_note([judged])


def test_a_chosen_setting_the_claim_is_not_about_leaves_it_undecided(worlds: dict[str, Results]) -> None:
    verdicts = {v.id: v for v in judge(worlds["holds"], ["vgg_cifar10"])[0].verdicts}
    assert verdicts["large_batch_spectral_best"].verdict == "supported"
    assert verdicts["vanilla_spectrum_skewed"].reason == "the claim is about densenet40_cifar100"


def test_unusable_choices_are_one_sentence(worlds: dict[str, Results]) -> None:
    with pytest.raises(UserError, match="setting=nowhere has no record"):
        judge(worlds["holds"], ["nowhere"])
    with pytest.raises(UserError, match="no finished run"):
        judge(Results((), ()))


def test_rank_over_cells_needs_every_cell(worlds: dict[str, Results]) -> None:
    place = Place("densenet40_cifar100")
    assert Measured(worlds["holds"]).values("cells_hessian_gap", place)[0] < -0.5
    fewer = replace(worlds["holds"], cells=worlds["holds"].cells[:-17])
    assert Measured(fewer).values("cells_hessian_gap", place) == {}


def test_rules_name_known_measures_and_every_statement_is_a_sentence() -> None:
    assert len(CLAIMS) == len(load_claims())
    for claim in CLAIMS.values():
        assert claim.statement.endswith((".", ")."))
        assert claim.minimum_seeds >= 3
        assert {name for name, _ in claim.expect} <= set(DESCRIPTIONS)
        assert claim.units(PAPER_SETTINGS)


def test_script_writes_three_files_and_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(ROOT / "scripts" / "claims.py"))["main"]
    results = tmp_path / "results"
    write_grid(results / "runs" / "demo", ("digits_vgg",), methods=("vanilla", "spectral"), seeds=(0,))
    assert main([str(results)]) == 0
    assert "UNDECIDED" in capsys.readouterr().out
    assert {file.name for file in (results / "demo").iterdir()} == {"claims.md", "claims.csv", "claims.json"}
    (judged,) = json.loads((results / "demo" / "claims.json").read_text())["judged"]
    assert len(judged["claims"]) == len(CLAIMS)
    assert main([str(tmp_path / "nowhere")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_claims_by_setting(worlds: dict[str, Results]) -> None:
    """A column a setting, each judged alone: one where all holds, one where nothing does that can
    fail there."""
    judged = {name: judge(worlds[name], ["densenet40_cifar100"]) for name in ("holds", "fails")}
    head, _, *lines = claims_text.by_setting(judged).splitlines()
    elsewhere = {v.id for v in judged["holds"][0].verdicts if not v.units}  # claims about other settings
    assert 0 < len(elsewhere) < len(CLAIMS) == len(lines)
    for line, claim in zip(lines, CLAIMS.values(), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        assert cells[1] == claim.statement
        if claim.id in elsewhere:
            assert cells[3:] == ["–", "–"]
        else:
            assert cells[3].startswith("✓ supported")
            assert cells[4].startswith("✓ supported" if claim.id == ON_ALPHA else "✗ contradicted"), cells
    assert f"holds: {len(CLAIMS) - len(elsewhere)} supported, 0 contradicted, 0 undecided" in head
