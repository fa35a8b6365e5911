"""Scores of real CIFAR-10 images that are made worse in growing steps: does every score order them?

python scripts/validate_scores.py --path FILE.npz
python scripts/validate_scores.py --classifier results/runs/sngan_classifier --sides 16 32

Writes results/sngan/score_validation.csv. Without FILE.npz the archive is downloaded.
"""

import argparse
import sys
from pathlib import Path

import torch

from sns.common.command import Parser, reports_errors
from sns.config.schema import DataConfig
from sns.data.dataset import load_dataset
from sns.measure import orderings
from sns.measure.samples import ScoreOptions
from sns.record.store import write_rows

FILE = "score_validation.csv"


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes; 1 if an order is wrong."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="images as an .npz file, instead of the official archive")
    parser.add_argument("--classifier", default="results/runs/sngan_classifier", help="run directory of the classifier")
    parser.add_argument("--sides", nargs="+", type=int, default=[16, 32], help="pixels a side")
    parser.add_argument("--samples", type=int, default=5_000, help="images of each step")
    parser.add_argument("--out", type=Path, default=Path("results/sngan"), help="folder of the CSV file")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options = ScoreOptions(classifier=given.classifier, samples=given.samples)
    rows = []
    for side in given.sides:
        name = "cifar10" if given.path is None else "npz"
        images = load_dataset(DataConfig(name, path=given.path, gcn="none", resolution=side), torch.device("cpu"))
        for row in orderings.measure(options, images, torch.device("cpu")):
            print("".join(f"{row[name]!s:>20.8}" for name in orderings.COLUMNS), flush=True)
            rows.append(row)
    given.out.mkdir(parents=True, exist_ok=True)
    write_rows(given.out / FILE, orderings.COLUMNS, rows)
    orders = orderings.orders(rows)
    for (side, kind, distance), right in orders.items():
        print(f"{side:>4} {kind:10}{distance:20}{'right' if right else 'wrong'}")
    return 0 if all(orders.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
