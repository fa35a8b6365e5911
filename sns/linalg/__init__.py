"""Linear algebra of one or many matrices: shapes in, numbers out, no training state."""
