"""Measures finished runs again from their checkpoints: Hessian, spectra, bounds, gradient-norm
quantiles.

python scripts/measure.py RUN_DIRECTORY [...] [measure.hessian_samples=50000 ...]

The weights, the history and everything else in the record stay unchanged. The record's
`environment.measured` holds the new settings.
"""

import argparse
import sys
from pathlib import Path

from sns.common.command import Parser, reports_errors
from sns.common.errors import UserError
from sns.train.remeasure import remeasure

ALLOWED = ("measure.", "train.device=", "train.threads=", "data.root=", "data.path=", "data.download=")


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Measures each directory; 1 if one could not be measured."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+", metavar="RUN_DIRECTORY | KEY=VALUE", help=f"keys: {', '.join(ALLOWED)}")
    words = parser.parse_args(arguments).words
    overrides = [word for word in words if "=" in word]
    directories = [Path(word) for word in words if "=" not in word]
    for word in overrides:
        if not word.startswith(ALLOWED):
            raise UserError(f"{word} cannot be changed after training; allowed: {', '.join(ALLOWED)}")
    if not directories:
        raise UserError("give the run directories to measure; --help lists the arguments")
    failed = 0
    for directory in directories:
        try:
            result = remeasure(directory, overrides)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
            continue
        eigenvalues = [
            f"{split} Hessian eigenvalue {row['eigenvalue']:.4g}"
            for split, row in (result.measured.get("hessian") or {}).items()
        ]
        print(f"{result.run_id}: {', '.join(eigenvalues) or 'measured'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
