"""How many seeds would decide a difference of one point between spectral and another method: the
calculation that fixes the number of seeds in results/paper/claims.yaml."""

import math
from dataclasses import dataclass
from statistics import median

import pandas as pd

from sns.analysis.cells import Results
from sns.analysis.claims.seeds import Seeds, plan_of
from sns.analysis.claims.tables import leads, markdown
from sns.common.errors import UserError

DIFFERENCE = 1.0  # the true difference, in points
LEVEL, POWER = 0.05, 0.8
QUANTITIES = {"test_accuracy": "test accuracy", "gap": "last gap"}
COLUMNS = ["quantity", "deviation", "comparisons", "sd", "seeds", "power_first", "power_fixed"]


@dataclass(frozen=True)
class Power:
    """`frame` has the rows of `compute`; `seeds` are the numbers of seeds of its last columns."""

    frame: pd.DataFrame
    seeds: Seeds


def compute(results: Results) -> Power:
    """Rows COLUMNS, for both quantities and two deviations: `sd` in points is the median, or the
    pooled one (root of the mean variance, weighted by degrees of freedom), of the paired
    differences of spectral to each other method, over settings and regimes.

    Only the seeds that came first count. `seeds` is the n, not rounded, at which a two-sided paired
    t-test at LEVEL has the power POWER for a true DIFFERENCE. The last columns are the power with
    the first seeds and with all. UserError where claims.yaml has no `seeds` for the experiment, or
    where no comparison has two seeds.
    """
    plan = plan_of(results)
    if plan is None:
        raise UserError("the power calculation is about an experiment that results/paper/claims.yaml has seeds for")
    rows = []
    for quantity in QUANTITIES:
        lead = [own for own in leads(results.with_seeds(range(plan.first)), quantity).values() if own.sd is not None]
        if not lead:
            raise UserError("no comparison of spectral with another method has two seeds: train more runs")
        pairs = [(own.n - 1, own.sd) for own in lead if own.sd is not None]
        pooled = math.sqrt(sum(free * sd**2 for free, sd in pairs) / sum(free for free, _ in pairs))
        for name, sd in (("median", median(sd for _, sd in pairs)), ("pooled", pooled)):
            powers = [power(sd, n) for n in (plan.first, plan.fixed)]
            rows.append([quantity, name, len(pairs), sd, needed(sd), *powers])
    return Power(pd.DataFrame(rows, columns=COLUMNS), plan)


def power(sd: float, n: float) -> float:
    """The probability that the two-sided paired t-test over n seeds detects DIFFERENCE, where the
    paired differences have the standard deviation `sd`, in points."""
    from statsmodels.stats.power import TTestPower

    if sd == 0:
        return 1.0
    value = float(TTestPower().power(DIFFERENCE / sd, n, LEVEL))
    return 1.0 if math.isnan(value) else value  # far outside of what its noncentral t can compute


def needed(sd: float) -> float:
    """The n, not rounded and at least 2, at which `power` is POWER."""
    from statsmodels.stats.power import TTestPower

    if power(sd, 2) >= POWER:
        return 2.0
    return float(TTestPower().solve_power(effect_size=DIFFERENCE / sd, alpha=LEVEL, power=POWER))


def to_markdown(computed: Power) -> str:
    """What was computed in a sentence, and the table."""
    plan = computed.seeds
    about = (
        f"Standard deviation of the paired difference of spectral to another method, over seeds 0 to {plan.first - 1}; "
        f"the number of seeds with which a two-sided paired t-test at {LEVEL:.0%} detects a true difference of "
        f"{DIFFERENCE:g} point with a probability of {POWER:g}; and that probability with {plan.first} and "
        f"{plan.fixed} seeds."
    )
    head = ["quantity", "sd, points", "of comparisons", "seeds needed", f"power, n = {plan.first}"]
    rows = [
        [f"{QUANTITIES[row['quantity']]}, {row['deviation']}", f"{row['sd']:.2f}", str(row["comparisons"])]
        + [f"{row[name]:.2f}" for name in ("seeds", "power_first", "power_fixed")]
        for row in computed.frame.to_dict("records")
    ]
    return f"{about}\n\n{markdown([*head, f'power, n = {plan.fixed}'], rows)}"


def to_csv(computed: Power) -> str:
    """`compute` as CSV."""
    return computed.frame.to_csv(index=False)


FORMATS = {"md": to_markdown, "csv": to_csv}
