"""Figure 6 (appendix B): Figure 2 for the other settings."""

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import figure2, plotted
from sns.analysis.figures.figure2 import draw, panels

__all__ = ["TITLE", "compute", "draw", "panels"]

TITLE = f"{figure2.TITLE}, other settings"


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of Figure 2 for every setting but the main one; RecordError where there is no
    other."""
    return figure2.norms(results, plotted.other_settings(results, setting))
