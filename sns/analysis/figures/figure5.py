"""Figure 5 (appendix A): Figure 1 for the other settings."""

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import figure1, plotted
from sns.analysis.figures.figure1 import draw

__all__ = ["NUMBER", "compute", "draw"]

NUMBER = 5


def compute(grid: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of Figure 1 for every setting but the main one; RecordError where there is no
    other."""
    return figure1.curves(grid, plotted.other_settings(grid, setting), f"Figure {NUMBER}. {figure1.TEXT}")
