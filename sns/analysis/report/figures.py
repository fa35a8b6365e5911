"""The six figures for the report: title, caption and panels."""

from typing import Any

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import plotted
from sns.analysis.figures import render as figures
from sns.analysis.report import panels as report_panels
from sns.common.errors import RecordError

_CURVES = (
    "Accuracy by epoch: solid test, dashed training (evaluation mode), dotted their gap; line: mean over seeds, band: "
    "least to greatest. Straight dotted line: alpha of the generalization gap."
)
_GRADIENTS = (
    "Mean L2 norm of the per-image input gradient, (a) on training, (b) on test images, against the generalization "
    "gap: a point an evaluation, mean over seeds, the last one enlarged; solid small batch, dashed large. Then norms "
    "by epoch, and Spearman's rho of norm and gap over the evaluations of a run: mean over seeds with a 95% t interval "
    "on Fisher's scale (hollow: large batch); for one seed the interval takes epochs as independent and is too narrow."
)
TEXTS = {
    "fig1": _CURVES,
    "fig2": _GRADIENTS,
    "fig3": "Largest eigenvalue of the Hessian of the unregularised loss with respect to all parameters at the end of "
    "training: bars are means over seeds (hatched: large batch), points the seeds.",
    "fig4": "Singular values of a reshaped weight matrix (output channels x the rest) at the end of training, sorted; "
    "solid small batch, dashed large; line: mean over seeds, band: least to greatest.",
    "fig5": _CURVES,
    "fig6": _GRADIENTS,
}


def build(grid: Results) -> list[dict[str, Any]]:
    """The figures in order: id, title, caption, panels, line styles; `error` where records hold
    nothing to draw."""
    makers = {
        "fig1": report_panels.curves,
        "fig2": report_panels.gradients,
        "fig3": report_panels.hessian,
        "fig4": report_panels.spectra,
        "fig5": report_panels.curves,
        "fig6": report_panels.gradients,
    }
    titles = {
        "fig1": "Accuracy and generalization gap",
        "fig2": "Input-gradient norm against gap",
        "fig3": "Largest Hessian eigenvalue",
        "fig4": "Singular values of the weight matrices",
        "fig5": "Accuracy and gap, other settings",
        "fig6": "Input-gradient norm against gap, other settings",
    }
    built = []
    for name, module in figures.FIGURES.items():
        entry: dict[str, Any] = {"id": name, "title": f"Figure {module.NUMBER}. {titles[name]}", "panels": []}
        entry |= {"caption": "", "error": None, "methods": [], "choose": name == "fig4", "chosen": 0}
        try:
            frame: pd.DataFrame = module.compute(grid)
        except RecordError as error:
            entry["error"] = str(error)
        else:
            names = plotted.methods(frame)
            entry |= {"methods": names, "caption": _caption(name, frame), "panels": makers[name](frame, names)}
            titled = [panel["title"] for panel in entry["panels"]]
            entry["chosen"] = titled.index(frame.attrs["layer"]) if frame.attrs.get("layer") in titled else 0
        built.append(entry)
    return built


def _caption(name: str, frame: pd.DataFrame) -> str:
    """The figure's caption with what the page shows in place of its first sentences; runs and what
    is missing stay."""
    first, *others = str(frame.attrs["caption"]).splitlines()
    remark = first[first.index("The paper shows") :] if "The paper shows" in first else ""
    return "\n".join([f"{TEXTS[name]} {remark}".rstrip(), *others])
