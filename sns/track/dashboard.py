"""The shared view of an experiment in Weights & Biases: a workspace to explore, a report to read.

Both can be built and written as JSON without an account; saving needs one.
"""

import json
from collections.abc import Sequence
from typing import Any

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws

GROUPS = ("setting", "batch.size", "method.name")  # of the configuration; only the seeds remain
COLUMNS = {  # of the run table: Table 1's and a few more
    "config": ("setting", "batch.size", "method.name", "seed"),
    "summary": (
        "status",
        "final.test_accuracy",
        "measured.gap_at_alpha",
        "final.gap",
        "best.test_accuracy",
        "measured.hessian.test.eigenvalue",
    ),
}
PANELS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {  # section -> (title, metrics)
    "Accuracy": (("test accuracy", ("test_accuracy",)), ("training accuracy", ("train_accuracy",))),
    "Generalization gap": (("training - test accuracy", ("gap",)), ("test loss", ("test_loss",))),
    "Input-gradient norms": (
        ("on test images", ("test_gradient_norm",)),
        ("on training images", ("train_gradient_norm",)),
    ),
    "Spectra": (
        ("largest singular value of all layers", ("sigma_max",)),
        ("its geometric mean over the layers", ("sigma_mean",)),
        ("Frobenius norm of all weights", ("frobenius",)),
    ),
}
SPECTRA = "^spectrum/"  # histograms of the final singular values, one a layer
FIGURE = "figures/run"


def build_workspace(entity: str, project: str, experiment: str | None) -> ws.Workspace:
    """The workspace; `experiment`: only its runs, None for all."""
    sections = [
        ws.Section(name=name, panels=_plots(plots), is_open=True, pinned=name == "Accuracy")
        for name, plots in PANELS.items()
    ]
    sections[-1].panels = [*sections[-1].panels, *_media()]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_title(experiment),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=_filter(experiment),
            groupby=[expr.Config(name) for name in GROUPS],
            order=[expr.Ordering(expr.Config("setting"), ascending=True)],
            pinned_columns=_columns(),
        ),
    )


def build_report(entity: str, project: str, experiment: str | None) -> wr.Report:
    """The report: Table 1 as a run table, then the panels of the workspace."""

    def runs(*groups: str) -> wr.Runset:  # entity and project are those of the report
        return wr.Runset(
            name=experiment or "all runs",
            filters=_filter(experiment),
            groupby=[f"config.{name}" for name in groups],
            pinned_columns=_columns(),
            visible_columns=_columns(),
        )

    blocks: list[Any] = [
        wr.P(
            "Yoshida and Miyato (2017): four training problems, two batch regimes, four settings. Every number here "
            "mirrors a record; the table and verdicts of the repository are computed from the records."
        ),
        wr.H1("Table 1"),
        wr.P("One row a run. Accuracy and gap are those of the last epoch; gap_at_alpha is the paper's (section 4.1)."),
        wr.PanelGrid(runsets=[runs()], panels=[]),
    ]
    for name, plots in PANELS.items():
        panels = [*_plots(plots), *(_media() if name == "Spectra" else [])]
        blocks += [wr.H1(name), wr.PanelGrid(runsets=[runs(*GROUPS)], panels=panels, hide_run_sets=True)]
    return wr.Report(
        entity=entity,
        project=project,
        title=_title(experiment),
        description="Spectral norm regularization, reproduced.",
        blocks=blocks,
        width="fluid",
    )


def to_json(view: ws.Workspace | wr.Report) -> str:
    """The JSON that would be sent to the server, without its random names."""
    model = view._to_model()  # private, but the only way without an account
    return json.dumps(_without_ids(model.model_dump(by_alias=True, mode="json")), indent=1, sort_keys=True) + "\n"


def _without_ids(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_ids(value) for key, value in node.items() if key not in ("__id__", "id", "ref")}
    return [_without_ids(value) for value in node] if isinstance(node, list) else node


def _title(experiment: str | None) -> str:
    return "Spectral norm regularization" + (f": {experiment}" if experiment else "")


def _filter(experiment: str | None) -> str:
    return f"Config('experiment.name') = '{experiment}'" if experiment else ""


def _columns() -> list[str]:
    config = ["config:" + ".value.".join(f"{name}.".split(".", 1)).rstrip(".") for name in COLUMNS["config"]]
    return ["run:displayName", *config, *(f"summary:{name}" for name in COLUMNS["summary"])]


def _plots(plots: Sequence[tuple[str, tuple[str, ...]]]) -> list[Any]:
    return [
        wr.LinePlot(title=title, x="epoch", y=list(metrics), title_x="epoch", max_runs_to_show=100)
        for title, metrics in plots
    ]


def _media() -> list[Any]:
    return [
        wr.LinePlot(title="singular values of each layer", x="epoch", metric_regex=SPECTRA),
        wr.MediaBrowser(title="runs at a glance", media_keys=[FIGURE], num_columns=1),
    ]
