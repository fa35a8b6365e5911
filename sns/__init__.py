"""Reference reproduction of Yoshida & Miyato (2017), Spectral Norm Regularization.

A package imports only from packages before it in this order: common, config, record, linalg, data,
model, method, optim, measure, task, analysis, track, train, launch. tests/test_architecture.py
checks it. `drop_in` lists what other projects import from here.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sns.drop_in import *  # noqa: F403
else:

    def __getattr__(name):
        """A name of sns.drop_in, which is imported at the first use: records need no torch."""
        if name == "__all__":
            return _names()
        if name[:1].isupper() or name in ("sigma", "spectrum"):  # others are modules of this package
            from sns import drop_in

            if name in _names():
                return getattr(drop_in, name)
        raise AttributeError(f"module 'sns' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_names()})

    def _names():
        from sns import drop_in

        return sorted(name for name in vars(drop_in) if not name.startswith("_"))
