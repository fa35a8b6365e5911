"""Reference reproduction of Yoshida & Miyato (2017), Spectral Norm Regularization.

Packages import in one direction: data -> model -> method -> measure -> train -> record -> analysis.
`config`, `seed`, `errors` and `linalg` are leaves that anyone may use.
"""

__version__ = "0.1.0"
