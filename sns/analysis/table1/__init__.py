"""Table 1: ours with the paper's numbers, and which of them are reproduced."""
