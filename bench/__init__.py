"""Paired measurements of the repository against peers and floors: `make bench`."""
