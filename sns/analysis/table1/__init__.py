"""Table 1 beside the paper's, and which of its cells are reproduced."""
