"""Short texts in the configuration: a length of time, or some cells of a sweep."""

import re

from sns.common.errors import ConfigError

TIME = re.compile(r"(\d+\.?\d*|\.\d+) ?(s|m|h|)")
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
KEYS = ("setting", "method", "batch", "seed")


def seconds(text: str) -> float:
    """The seconds that 540, 540s, 9m or 1.5h stand for. ConfigError unless they are positive."""
    match = TIME.fullmatch(text.strip())
    value = 0.0 if match is None else float(match[1]) * UNITS[match[2]]
    if value <= 0:
        raise ConfigError(f"launch.budget={text} is not a length of time: write 540s, 9m or 1.5h, or null for no limit")
    return value


def cells(text: str) -> dict[str, tuple[str, ...]]:
    """`setting=A,B method=C` as allowed values for some of KEYS. ConfigError for any other text."""
    wanted: dict[str, tuple[str, ...]] = {}
    for word in text.split():
        key, _, values = word.partition("=")
        if key not in KEYS or key in wanted or not all(values.split(",")):
            break
        wanted[key] = tuple(values.split(","))
    else:
        if wanted:
            return wanted
    raise ConfigError(
        f"launch.priority has {text!r}: write words such as 'setting=vgg_cifar10 method=decay,spectral batch=small', "
        f"of {', '.join(KEYS)}"
    )
