"""Reference reproduction of Yoshida & Miyato (2017), Spectral Norm Regularization.

A package imports only from packages before it in this order: common, config, record, linalg, data,
model, method, optim, measure, task, analysis, track, train, launch. tests/test_architecture.py
checks it.
"""

__version__ = "0.1.0"
