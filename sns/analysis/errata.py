"""What records and the printed Table 1 say about the paper's errata; docs/reproduction.md quotes
it."""

import math
from dataclasses import dataclass

from sns.analysis.cells import METHODS, PAPER_SETTINGS, REGIMES, Results, paper_table
from sns.analysis.claims.claim import load_claims
from sns.analysis.claims.verdicts import printed
from sns.analysis.report.bound import geometric_mean
from sns.record.store import Record

SETTING, METHOD = "vgg_pocket", "spectral"  # the runs that are looked at: a plain chain of layers, all seeds finished


def table_counts() -> list[tuple[str, str, str]]:
    """(id, section, count) of every claim that the printed Table 1 decides, such as `2 of 4
    settings`."""
    counts = [(claim.id, claim.section, printed(claim)[1]) for claim in load_claims()]
    return [row for row in counts if row[2]]


def falls_least() -> dict[str, str]:
    """Setting to the method whose printed test accuracy falls least from the small to the large
    batch."""
    accuracy = paper_table().set_index(["setting", "method", "regime"])["test_accuracy"]
    fall = accuracy.xs("small", level="regime") - accuracy.xs("large", level="regime")
    return {setting: min(METHODS, key=lambda method: fall[setting, method]) for setting in PAPER_SETTINGS}


@dataclass(frozen=True)
class Trained:
    """Means over the seeds of one cell of trained networks."""

    batch: int
    seeds: int
    short: float  # by how much the running power iteration's sigma fell short of the exact one, root mean square
    product_sigma: float  # geometric means: product of reshaped norms, of true norms, largest Jacobian norm
    product_operator_norm: float
    jacobian_norm: float


def trained(grid: Results) -> list[Trained]:
    """What the records of SETTING with METHOD show, one entry a regime that has finished runs with
    both measurements.

    The penalty at the last update is lambda / 2 * sum sigma^2 by the running power iteration;
    layers.csv has the exact sigmas after it, which this update's penalty moved by less than 0.2%.
    """
    entries = []
    for regime in REGIMES:
        runs = [run for run in grid.cell(SETTING, METHOD, regime).finished if run.layers is not None]
        bounds = [run.result.measured["lipschitz"] for run in runs if run.result.measured.get("lipschitz") is not None]
        if runs and bounds:
            means = [
                geometric_mean(bound[name] for bound in bounds)
                for name in ("product_sigma", "product_operator_norm", "jacobian_norm_max")
            ]
            short = sum(shortfall(run) for run in runs) / len(runs)
            entries.append(Trained(runs[0].result.batch_size, len(runs), short, *means))
    return entries


def shortfall(run: Record) -> float:
    """1 - (running sigma / exact sigma), both as root of the sum of squares over the layers, at the
    end of `run`."""
    method, layers = run.config["method"], run.layers
    assert layers is not None
    factor = method["factor"] * method.get("scale", 1.0)
    exact = factor / 2 * float(layers["sigma"].pow(2).sum())
    return 1 - math.sqrt(float(run.history["penalty"].iloc[-1]) / exact)
