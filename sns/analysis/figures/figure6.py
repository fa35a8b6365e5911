"""Figure 6 (appendix B): Figure 2 for the other settings."""

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import figure2, plotted
from sns.analysis.figures.figure2 import draw

__all__ = ["NUMBER", "compute", "draw"]

NUMBER = 6


def compute(grid: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of Figure 2 for every setting but the main one; RecordError where there is no
    other."""
    return figure2.points(grid, plotted.other_settings(grid, setting), f"Figure {NUMBER}. {figure2.TEXT}")
