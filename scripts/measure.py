"""Measures finished runs again from their checkpoints: Hessian, spectra, bounds, gradient-norm
quantiles.

python scripts/measure.py RUN_DIRECTORY [...] [measure.hessian_samples=50000 measure.lanczos=true ...]

The weights, the history and everything else in the record stay as they are; the new settings are
kept in the record's `environment.measured`.
"""

import sys
from pathlib import Path

from sns.common.errors import UserError
from sns.train.remeasure import remeasure

ALLOWED = ("measure.", "train.device=", "train.threads=", "data.root=", "data.path=", "data.download=")


def main(arguments: list[str]) -> int:
    """Measures each directory; 1 if one could not be measured."""
    overrides = [text for text in arguments if "=" in text]
    directories = [Path(text) for text in arguments if "=" not in text]
    for text in overrides:
        if not text.startswith(ALLOWED):
            print(f"error: {text} cannot be changed after training; allowed: {', '.join(ALLOWED)}", file=sys.stderr)
            return 2
    if not directories or any(text in ("-h", "--help") for text in arguments):
        print(__doc__)
        return 0 if arguments else 2
    failed = 0
    for directory in directories:
        try:
            result = remeasure(directory, overrides)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
            continue
        hessian = result.measured.get("hessian") or {}
        figures = [f"{split} Hessian eigenvalue {entry['eigenvalue']:.4g}" for split, entry in hessian.items()]
        print(f"{result.run_id}: {', '.join(figures) or 'measured'}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
