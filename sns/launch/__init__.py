"""Sweeps: which runs there are, how they are launched and counted, and how far they are."""
