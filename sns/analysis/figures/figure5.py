"""Figure 5 (appendix A): Figure 1 for the other settings."""

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.figures import figure1, plotted

TITLE = f"{figure1.TITLE}, other settings"
draw, panels = figure1.draw, figure1.panels


def compute(results: Results, setting: str | None = None) -> pd.DataFrame:
    """The rows of Figure 1 for all settings but the main one; RecordError where there is none."""
    return figure1.curves(results, plotted.other_settings(results, setting))
