"""Every figure of the registry for the page: heading, caption, panels."""

import base64
import json
from collections.abc import Iterable
from typing import Any

from sns.analysis.cells import Results, methods_of
from sns.analysis.figures import style
from sns.analysis.figures.render import FIGURES, FigureModule, named_errors, title
from sns.common.errors import FigureError, RecordError


def build(results: Results, names: Iterable[str] = FIGURES) -> dict[str, dict[str, Any]]:
    """The figures of these `names` by name. `error` is set where the records hold nothing to draw,
    `bug` as well where the figure's code is wrong, `image` where a figure has no panels.

    An optional figure with nothing to draw is left out.
    """
    figures = {}
    for name in names:
        module = FIGURES[name]
        entry: dict[str, Any] = {"id": f"fig{name}", "title": title(name), "caption": "", "methods": [], "panels": []}
        entry |= {"error": None, "bug": False, "image": None, "first": None}
        try:
            with named_errors(name):
                figures[name] = entry | _content(module, results)
        except FigureError as error:
            figures[name] = entry | {"error": str(error), "bug": True}
        except RecordError as error:
            if not getattr(module, "OPTIONAL", False):
                figures[name] = entry | {"error": str(error)}
    return figures


def _content(module: FigureModule, results: Results) -> dict[str, Any]:
    frame = module.compute(results)
    entry: dict[str, Any] = {"caption": frame.attrs.get("caption", "")}
    panels: Any = getattr(module, "panels", None)
    if panels is None:
        frame.attrs["caption"] = ""  # the page has it as text
        with style.context():
            image = base64.b64encode(style.png(module.draw(frame))).decode()
        return entry | {"image": f"data:image/png;base64,{image}"}
    entry |= {"methods": methods_of(frame) if "method" in frame else [], "panels": panels(frame)}
    json.dumps(entry["panels"])  # so that what JSON cannot hold is this figure's error, not the page's
    if "first_panel" in frame.attrs:
        entry["first"] = [panel["title"] for panel in entry["panels"]].index(frame.attrs["first_panel"])
    return entry
