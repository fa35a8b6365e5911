"""What one update and one evaluation mean: one task a file. The trainer does the rest."""
