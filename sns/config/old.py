"""Keys that the config.yaml files of older records use."""

from typing import Any


def renamed(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.yaml with the present keys.

    Records of schema 1 call the experiment `grid` and name neither task nor optimizer.
    """
    values = dict(values)
    if "grid" in values:
        values["experiment"] = {"name": values.pop("grid")}
    values.setdefault("task", {"name": "classification"})
    if "alpha" in values:
        values["task"] = values["task"] | {"alpha": values.pop("alpha")}
    if "optim" in values:
        values["optim"] = {"name": "nesterov"} | values["optim"]
    return values
