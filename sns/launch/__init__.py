"""Whole grids: which runs there are, which are done, and how long the rest will take."""
