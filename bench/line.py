"""One line of the table: a figure, its measurements and its target."""

import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.timing import Spread, spread

FASTER = "x faster"
TIMES = "x the time"
ADDED = "% more time"
SHARE = "% of the time"


@dataclass(frozen=True)
class Line:
    """Times `ours` and `theirs` in `unit`, and `figure`, the result, of the given `kind`.

    A target is a bound on the figure's median.
    """

    row: int
    what: str
    against: str
    unit: str = ""
    ours: Spread | None = None
    theirs: Spread | None = None
    figure: Spread | None = None
    kind: str = ""
    target: float | None = None
    note: str = ""

    @property
    def hit(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None or self.figure is None:
            return None
        compare = operator.ge if self.kind == FASTER else operator.le
        return bool(compare(self.figure.median, self.target))

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for the JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "Line":
        """The inverse of `to_dict`."""
        spreads = {key: Spread(**values[key]) for key in ("ours", "theirs", "figure") if values[key] is not None}
        return Line(**(values | spreads))


def faster(row: int, what: str, against: str, ours: Sequence[float], theirs: Sequence[float], **extra: Any) -> Line:
    """How many times faster ours is than theirs, from seconds of the same rounds."""
    ratio = [b / a for a, b in zip(ours, theirs, strict=True)]
    return Line(row, what, against, "s", spread(ours), spread(theirs), spread(ratio), FASTER, **extra)


def times(row: int, what: str, against: str, ours: Sequence[float], theirs: Sequence[float], **extra: Any) -> Line:
    """How many times as long ours takes, from seconds of the same rounds."""
    ratio = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Line(row, what, against, "s", spread(ours), spread(theirs), spread(ratio), TIMES, **extra)


def added(row: int, what: str, against: str, ours: Sequence[float], theirs: Sequence[float], **extra: Any) -> Line:
    """How much longer ours takes, in percent of theirs."""
    percent = [100 * (a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    return Line(row, what, against, "s", spread(ours), spread(theirs), spread(percent), ADDED, **extra)


def share(row: int, what: str, against: str, part: float, rest: float, **extra: Any) -> Line:
    """How much of part + rest, both in seconds, is `part`, in percent."""
    one = [100 * part / (part + rest)]
    return Line(row, what, against, "s", spread([part]), spread([rest]), spread(one), SHARE, **extra)
