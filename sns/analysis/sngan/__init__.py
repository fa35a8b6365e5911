"""Spectral normalization for GANs: its runs, the paper's Table 2 beside ours, its questions."""
