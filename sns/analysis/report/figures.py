"""Every figure of the registry for the page: heading, caption, panels."""

import base64
from typing import Any

from sns.analysis.cells import Results, methods_of
from sns.analysis.figures import style
from sns.analysis.figures.render import FIGURES, FigureModule, title
from sns.common.errors import RecordError


def build(results: Results) -> dict[str, dict[str, Any]]:
    """The figures by name. `error` is set where the records hold nothing to draw, `image` where a
    figure has no panels."""
    return {name: _entry(name, module, results) for name, module in FIGURES.items()}


def _entry(name: str, module: FigureModule, results: Results) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": f"fig{name}", "title": title(name), "caption": "", "methods": [], "panels": []}
    entry |= {"error": None, "image": None, "first": None}
    try:
        frame = module.compute(results)
    except RecordError as error:
        return entry | {"error": str(error)}
    entry["caption"] = frame.attrs.get("caption", "")
    panels: Any = getattr(module, "panels", None)
    if panels is None:
        frame.attrs["caption"] = ""  # the page has it as text
        with style.context():
            image = base64.b64encode(style.png(module.draw(frame))).decode()
        return entry | {"image": f"data:image/png;base64,{image}"}
    entry |= {"methods": methods_of(frame) if "method" in frame else [], "panels": panels(frame)}
    if "first_panel" in frame.attrs:
        entry["first"] = [panel["title"] for panel in entry["panels"]].index(frame.attrs["first_panel"])
    return entry
