"""The dry run: the states of a sweep's runs and the time left."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, compose_tree

from sns.launch.attempt import attempt
from sns.launch.plan import planned, remaining
from sns.launch.sweep import dry_run
from sns.train.configure import configure
from sns.train.stop import Interrupted

sys.path.insert(0, str(ROOT / "scripts"))
import plan as plan_script

FAST = [*TINY, "measure.hessian=false", "measure.spectra=false"]


def test_states_and_time_left(tmp_path: Path) -> None:
    overrides = [*FAST, f"results={tmp_path}", "method=vanilla,decay", "seed=0,1"]
    configs = [run.config for run in dry_run(overrides)[0]]
    attempt(configs[0], "", in_sweep=True)
    stops = configure(compose_tree(*FAST, f"results={tmp_path}", "method=decay", "train.stop_after=2"))
    with pytest.raises(Interrupted):
        attempt(stops, "", in_sweep=True)
    runs = planned(configs)
    assert [run.state.name for run in runs] == ["done", "to do", "stopped", "to do"]
    left = remaining(runs, lambda config: 100.0)
    assert left == {
        configs[1].run_id: runs[0].seconds,  # as long as its finished sibling
        configs[2].run_id: 100.0,
        configs[3].run_id: 100.0,
    }
    (configs[0].directory / "result.json").write_text("{")
    (state,) = (run.state for run in planned(configs[:1]))
    assert (state.name, state.retry) == ("failed", False)


def test_a_run_of_unknown_time_is_listed_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    known = {"decay": 50.0}
    monkeypatch.setattr(plan_script.Estimator, "seconds", lambda self, config: known.get(config.method.name))
    assert plan_script.main([*FAST, f"results={tmp_path}", "method=vanilla,decay"]) == 0
    printed = capsys.readouterr().out
    assert "unknown" in printed
    assert "left: 2 runs, about 0:00:50 on this device one after the other; the time of 1 is unknown" in printed


def test_the_plan_as_a_command(tmp_path: Path) -> None:
    def plan(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts/plan.py"), *FAST, f"results={tmp_path}", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = plan("seed=0,1,x")
    assert "2 runs: 2 to do" in done.stdout
    assert done.stderr.startswith("error: seed has a wrong value")
    bad = plan("train.epoch=3")
    assert bad.stderr.startswith("error: there is no train.epoch (did you mean train.epochs?)")
    assert (done.returncode, bad.returncode, bad.stderr.count("\n")) == (1, 1, 1)
