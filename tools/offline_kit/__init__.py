"""A folder with everything that a machine without network needs to train: docs/gpu.md."""
