"""Row 6: the Hessian's largest eigenvalue against pyhessian; operator norms against the FFT."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace

import torch

from bench.cells import Plan, cell, classified, update
from bench.line import Line, faster
from bench.peers import fourier_operator_norm
from bench.timing import Work, paired
from sns.config.schema import MeasureConfig
from sns.linalg.conv_operator import circular_operator_norm, operator_norm
from sns.measure.hessian import hessian_eigenvalue

TOLERANCE = 1e-4
UPDATES = 200  # they separate the largest eigenvalue from the others
PEER = "pyhessian, same tolerance"
KERNELS = {  # name: (out, in, 3, 3), pixels a side
    "VGG's second layer, 64 -> 64 on 32x32": (64, 64, 32),
    "VGG's last group, 512 -> 512 on 4x4": (512, 512, 4),
}


def spectra(plan: Plan) -> Iterator[Line]:
    """Row 6."""
    yield _hessian(plan)
    for name, (out, channels, side) in KERNELS.items():
        yield from _operator(plan, name, out // (8 if plan.tiny else 1), channels // (8 if plan.tiny else 1), side)


def _hessian(plan: Plan) -> Line:
    what = "largest Hessian eigenvalue, digits VGG, trained, 64 images"
    if importlib.util.find_spec("pyhessian") is None:
        return Line(6, what, PEER, note="not installed: pip install -r bench/requirements.txt")
    small = cell(_tiny(plan), "vgg_cifar10", "optim.lr=0.02", "train.mode=eager")
    for _ in range(5 if plan.tiny else UPDATES):
        update(small)()
    x, y = classified(small).dataset.train.x, classified(small).dataset.train.y
    values: dict[str, float] = {}

    def ours() -> None:
        options = MeasureConfig(hessian_tolerance=TOLERANCE, hessian_iterations=1_000)
        start = torch.Generator().manual_seed(0)
        result = hessian_eigenvalue(classified(small).model, x, y, options, start)
        values["ours"], values["products"] = result.eigenvalue, result.iterations

    def theirs() -> None:
        from pyhessian import hessian

        classified(small).model.eval()
        peer = hessian(classified(small).model, torch.nn.CrossEntropyLoss(), data=(x, y), cuda=not x.is_cpu)
        (values["theirs"],), _ = peer.eigenvalues(maxIter=1_000, tol=TOLERANCE)
        classified(small).model.train()

    taken = paired({"ours": ours, "theirs": theirs}, plan.device, plan.budget / 2, rounds=5)
    note = f"eigenvalues {values['ours']:.6g} and {values['theirs']:.6g}, ratio {values['ours'] / values['theirs']:.6f}"
    note += f"; {values['products']:.0f} products of ours, which also bounds the residual; the peer keeps one graph"
    return faster(6, what, PEER, taken["ours"], taken["theirs"], note=note)


def _tiny(plan: Plan) -> Plan:
    return replace(plan, tiny=True)


def _operator(plan: Plan, name: str, out: int, channels: int, side: int) -> Iterator[Line]:
    weight = torch.randn(out, channels, 3, 3, generator=torch.Generator().manual_seed(0)).to(plan.device)
    norms: dict[str, float] = {}

    def circular() -> None:
        norms["circular"] = circular_operator_norm(weight, (side, side))

    def padded() -> None:
        norms["padded"] = operator_norm(weight, (side, side), 1, 1)

    def fourier() -> None:
        norms["fourier"] = fourier_operator_norm(weight, side)

    works: dict[str, Work] = {"circular": circular, "padded": padded, "fourier": fourier}
    taken = paired(works, plan.device, plan.budget / 4, rounds=3)
    label = "FFT and an SVD at every frequency"
    note = f"norms {norms['circular']:.8g} and {norms['fourier']:.8g}"
    yield faster(6, f"circular operator norm, {name}", label, taken["circular"], taken["fourier"], note=note)
    note = f"norms {norms['padded']:.6g} and {norms['fourier']:.6g}: the peer's map pads circularly, ours with zeros"
    yield faster(6, f"zero-padded operator norm, {name}", label, taken["padded"], taken["fourier"], note=note)
