"""Figure 5 (appendix A): Figure 1 for the other settings."""

import pandas as pd

from sns.analysis import figure1, plotted
from sns.analysis.figure1 import draw
from sns.analysis.grid import Grid

__all__ = ["NUMBER", "compute", "draw"]

NUMBER = 5


def compute(grid: Grid, setting: str | None = None) -> pd.DataFrame:
    """The rows of Figure 1 for every setting but the main one; RecordError where there is no other."""
    return figure1.curves(grid, plotted.other_settings(grid, setting), f"Figure {NUMBER}. {figure1.TEXT}")
