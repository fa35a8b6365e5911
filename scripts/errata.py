"""The paper's errata in numbers: on small examples with fixed seeds, on recorded runs and on the
printed Table 1.

python scripts/errata.py [RESULTS]

results/paper/errata.txt holds what this prints; docs/reproduction.md says what it means.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from sns.analysis import cli
from sns.analysis.cells import load_results
from sns.analysis.errata import METHOD, SETTING, Trained, falls_least, table_counts, trained
from sns.common.command import reports_errors
from sns.common.errors import RecordError
from sns.linalg import errata

STEPS = 10


def algorithm_1() -> Iterator[str]:
    """Erratum 1."""
    yield "1. Algorithm 1 as printed, 64 x 576 Gaussian: sigma, and |sigma u v^T| / sigma_1, which should be 1"
    yield f"{'step':>10}" + "".join(f"{n:>9}" for n in [*range(1, STEPS + 1), 200])
    for sigma_1 in (1.30, 0.67):
        rows = errata.algorithm_1(sigma_1, STEPS)
        yield f"sigma_1 = {sigma_1:.2f}, 1 / sigma_1 = {1 / sigma_1:.4f}"
        yield "     sigma" + "".join(f"{row.printed_sigma:9.4f}" for row in rows)
        yield "   printed" + "".join(f"{row.printed_excess:9.1e}" for row in rows)
        yield " corrected" + "".join(f"{row.corrected_excess:9.4f}" for row in rows)


def penalties() -> Iterator[str]:
    """Errata 2 and 3."""
    yield "2. Slope of a penalty by finite differences / slope of the gradient in the text, lambda = 0.01"
    yield from (f"   {name:28}{ratio:8.4f}" for name, ratio in errata.gradient_ratios().items())
    right, wrong = errata.reshaped_norms()
    yield "3. Norm of a Gaussian 128 x 64 x 3 x 3 kernel"
    yield f"   as 128 x 576 {right:.3f}, by its last dimension as 24576 x 3 {wrong:.3f}: {wrong / right:.2f} times"
    large, small = (errata.public_gradients(sigma_1) for sigma_1 in (1.30, 0.67))
    yield "   what public code adds: its size / the paper's at sigma_1 = 1.30 and 0.67, and cosine of their angle"
    for name, one in large.items():
        yield f"   {name:36}{one.size:8.3f}{small[name].size:8.3f}{one.cosine:8.3f}"


def convolutions(cells: list[Trained]) -> Iterator[str]:
    """Erratum 4."""
    yield "4. Norm of the convolution on 32 x 32 images / norm of the reshaped kernel"
    for name, kernel in (("Gaussian", errata.gaussian((32, 16, 3, 3))), ("equal taps", errata.flat_kernel())):
        norms = errata.kernel_norms(kernel)
        circular, padded = norms.circular / norms.reshaped, norms.zero_padded / norms.reshaped
        yield f"   {name:12} circular {circular:.4f}, zero padding {padded:.4f}"
    bound = errata.product_bound()
    yield f"   two blurs: product of reshaped norms {bound.reshaped:.4f}, of true norms {bound.zero_padded:.4f},"
    yield f"   |f(x + xi) - f(x)| / |xi| = {bound.measured:.4f}, {bound.measured / bound.reshaped:.1f} times the first"
    yield f"   recorded runs, {SETTING}, {METHOD}: products of norms, and the largest of an input Jacobian"
    if not cells:
        yield "   none here"
    for cell in cells:
        products = f"reshaped {cell.product_sigma:.2g}, true {cell.product_operator_norm:.2g}"
        yield f"   B = {cell.batch}, {cell.seeds} seeds: {products}, Jacobian {cell.jacobian_norm:.2f}"


def jacobians() -> Iterator[str]:
    """Erratum 5."""
    jacobian = errata.piecewise_jacobians()
    yield "5. Jacobian of a two-layer ReLU network at (1, -1)"
    yield f"   D by the layer's input {jacobian.by_input}, by the pre-activation {jacobian.by_preactivation},"
    yield f"   by automatic differentiation {jacobian.true}"


def steps() -> Iterator[str]:
    """Erratum 6."""
    step = errata.adversarial_steps()
    yield "6. epsilon = 1: the L2 step of equation 3 and the sign step of [9], 3 x 32 x 32"
    yield f"   lengths {step.l2:.2f} and {step.sign:.2f}, an image {step.image:.2f}, cosine {step.cosine:.2f}"
    yield f"   loss {step.loss:.1f}; after the L2 step {step.loss_l2:.1f}, after the sign step {step.loss_sign:.0f},"
    yield f"   after the sign step at the length of the other {step.loss_sign_shortened:.1f}"


def power_iterations(cells: list[Trained]) -> Iterator[str]:
    """Erratum 7."""
    yield "7. One persistent power iteration an update against the exact sigma, penalty alone, 2,000 updates"
    for rate in (0.001, 0.01):
        end = errata.persistent_iteration(rate)
        rank = f"stable rank {end.rank_before:.0f} of 64, then {end.rank_after:.0f}"
        yield f"   learning rate * lambda = {rate}: {100 * end.short:.0f}% too small; {rank}"
    for cell in cells:
        yield f"   recorded runs, {SETTING}, B = {cell.batch}, last update: {100 * cell.short:.1f}% too small"


def printed_table() -> Iterator[str]:
    """Erratum 8."""
    yield "8. The paper's claims in its own Table 1"
    for claim, section, count in table_counts():
        yield f"   {section:4} {claim:38} {count}"
    falls = ", ".join(f"{setting} {method}" for setting, method in falls_least().items())
    yield f"   accuracy falls least with: {falls}"


def parts(results: Path) -> Iterator[Iterator[str]]:
    """The lines of every part, in order."""
    if not results.is_dir():
        raise RecordError(f"{results} does not exist: give the results folder that holds runs/pocket, or none at all")
    cells = trained(load_results(results / "runs" / "pocket"))
    yield from (algorithm_1(), penalties(), convolutions(cells), jacobians())
    yield from (steps(), power_iterations(cells), printed_table())


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """Prints every part."""
    parser = cli.results_parser("The paper's errata in numbers.", experiment=False, out=None)
    results = parser.parse_args(arguments).results
    torch.set_num_threads(1)
    for part in parts(results):
        print("\n".join(part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
