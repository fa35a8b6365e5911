"""The shared view of an experiment, as the JSON that would be sent to the server."""

import json
import subprocess
import sys
from typing import Any

import pytest
from conftest import ROOT, compose_tree
from omegaconf import OmegaConf
from synthetic import HISTORY

from sns.record.schema import Result

pytest.importorskip("wandb_workspaces", reason="pip install -e '.[track]'")


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script writes without an account, for one experiment."""
    out = tmp_path_factory.mktemp("dashboard")
    command = [sys.executable, str(ROOT / "scripts/wandb_dashboard.py"), "--experiment", "table1"]
    command += ["--entity", "team", "--project", "ours", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return {name: json.loads((out / f"{name}.json").read_text()) for name in ("workspace", "report")}


def line_plots(node: Any) -> list[dict[str, Any]]:
    """The configurations of all line plots anywhere below `node`."""
    if isinstance(node, list):
        return [plot for entry in node for plot in line_plots(entry)]
    if not isinstance(node, dict):
        return []
    if node.get("viewType") == "Run History Line Plot":
        return [node["config"]]
    return [plot for entry in node.values() for plot in line_plots(entry)]


def runsets(view: dict[str, Any]) -> list[dict[str, Any]]:
    if "section" in view["spec"]:
        return list(view["spec"]["section"]["runSets"])
    grids = [block for block in view["spec"]["blocks"] if block["type"] == "panel-grid"]
    return [runset for grid in grids for runset in grid["metadata"]["runSets"]]


def in_config(name: str) -> bool:
    """Whether `a.value.b` is a field of the configuration."""
    tree = OmegaConf.to_container(compose_tree("setting=digits_vgg"), resolve=False)
    first, _, rest = name.partition(".value")
    assert isinstance(tree, dict)
    return first in tree and (not rest or rest.removeprefix(".") in tree[first])


@pytest.mark.parametrize("name", ["workspace", "report"])
def test_the_curves_are_there_over_epochs(views: dict[str, Any], name: str) -> None:
    plots = line_plots(views[name])
    assert {plot["xAxis"] for plot in plots} == {"epoch"}
    metrics = {metric for plot in plots for metric in plot["metrics"] or []}
    assert metrics <= set(HISTORY)
    assert {"test_accuracy", "train_accuracy", "gap", "test_gradient_norm", "sigma_max"} <= metrics
    assert "^spectrum/" in {plot["metricRegex"] for plot in plots}


@pytest.mark.parametrize("name", ["workspace", "report"])
def test_runs_are_grouped_by_setting_batch_and_method(views: dict[str, Any], name: str) -> None:
    groupings = [[key["name"] for key in runset["grouping"]] for runset in runsets(views[name])]
    wanted = ["setting.value", "batch.value.size", "method.value.name"]
    assert all(in_config(key) for key in wanted)
    assert [grouping for grouping in groupings if grouping] == [wanted] * (1 if name == "workspace" else 4)
    for runset in runsets(views[name]):
        (only,) = runset["filters"]["filters"]
        assert (only["key"], only["value"]) == ({"name": "experiment.name", "section": "config"}, "table1")


def test_table_1_is_a_table_of_runs(views: dict[str, Any]) -> None:
    table = runsets(views["report"])[0]
    assert table["grouping"] == []
    for column in table["runFeed"]["columnOrder"]:
        section, _, name = column.partition(":")
        if section == "config":
            assert in_config(name), name
        elif section == "summary":
            assert name.split(".")[0] in Result.__dataclass_fields__, name
    assert "summary:final.test_accuracy" in table["runFeed"]["columnOrder"]


def test_it_belongs_to_the_team_and_is_the_same_each_time(views: dict[str, Any]) -> None:
    from sns.track import dashboard

    assert (views["workspace"]["entity"], views["workspace"]["project"]) == ("team", "ours")
    assert views["report"]["project"]["entityName"] == "team"
    for name, build in (("workspace", dashboard.build_workspace), ("report", dashboard.build_report)):
        assert json.loads(dashboard.to_json(build("team", "ours", "table1"))) == views[name]


def test_saving_without_credentials_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, str(ROOT / "scripts/wandb_dashboard.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no credentials")
