"""Figure 6 (appendix B): Figure 2 for the other settings."""

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import figure2, plotted

TITLE = f"{figure2.TITLE}, other settings"
draw, panels = figure2.draw, figure2.panels


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of Figure 2 for all settings but the main one; RecordError where there is none."""
    return figure2.norms(results, plotted.other_settings(results, setting))
