"""Weights & Biases shows what the records hold; a process of its own does it, so that no run ever
waits for it."""
