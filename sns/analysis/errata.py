"""What records and the printed Table 1 say about the paper's errata, for docs/reproduction.md."""

import math
from dataclasses import dataclass

from sns.analysis.cells import METHODS, PAPER_SETTINGS, REGIMES, Results, paper_table
from sns.analysis.claims.claim import load_claims
from sns.analysis.claims.verdicts import printed
from sns.analysis.report.bound import geometric_mean
from sns.record.store import Record

SETTING, METHOD = "vgg_pocket", "spectral"  # a plain chain of layers, with all seeds finished


def table_counts() -> list[tuple[str, str, str]]:
    """(id, section, count such as `2 of 4 settings`) of every claim that the printed Table 1
    decides."""
    counts = [(claim.id, claim.section, printed(claim)[1]) for claim in load_claims()]
    return [row for row in counts if row[2]]


def falls_least() -> dict[str, str]:
    """For each setting the method whose printed test accuracy falls least from the small to the
    large batch."""
    accuracy = paper_table().set_index(["setting", "method", "regime"])["test_accuracy"]
    fall = accuracy.xs("small", level="regime") - accuracy.xs("large", level="regime")
    return {setting: min(METHODS, key=lambda method: fall[setting, method]) for setting in PAPER_SETTINGS}


@dataclass(frozen=True)
class Trained:
    """Means over the seeds of one cell."""

    batch: int
    seeds: int
    short: float  # mean of `shortfall`
    product_sigma: float  # this and the next two are geometric means: product of the reshaped norms,
    product_operator_norm: float  # product of the norms of the layers as linear maps,
    jacobian_norm: float  # largest norm of an input Jacobian


def trained(results: Results) -> list[Trained]:
    """The records of SETTING with METHOD, one entry for each regime with runs that have layers and
    Lipschitz bounds."""
    entries = []
    for regime in REGIMES:
        runs = [run for run in results.cell(SETTING, METHOD, regime).finished if run.layers is not None]
        bounds = [bound for run in runs if (bound := run.result.measured.get("lipschitz")) is not None]
        if runs and bounds:
            means = [
                geometric_mean(bound[name] for bound in bounds)
                for name in ("product_sigma", "product_operator_norm", "jacobian_norm_max")
            ]
            short = sum(shortfall(run) for run in runs) / len(runs)
            entries.append(Trained(runs[0].result.batch_size, len(runs), short, *means))
    return entries


def shortfall(run: Record) -> float:
    """1 - (sigma of the running power iteration / exact sigma) at the end of `run`, both as root of
    the sum of squares over the layers.

    The penalty at the last update is lambda / 2 * sum sigma^2 with the running sigmas. layers.csv
    has the exact sigmas after that update, which changed them by less than 0.2%.
    """
    method, layers = run.config["method"], run.layers
    assert layers is not None
    factor = run.result.dose.get("factor") or method["factor"] * method.get("scale", 1.0)
    exact = factor / 2 * float(layers["sigma"].pow(2).sum())
    return 1 - math.sqrt(float(run.history["penalty"].iloc[-1]) / exact)
