"""What the processes of method/test_drop_in_ddp.py run, in a module that they can import."""

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

from sns import SpectralHammer, SpectralHardCap, SpectralNormPenalty

FORMS = ("loss", "gradient", "operator", "compiled", "projection")


def trained(form: str, place: int, count: int) -> list[torch.Tensor]:
    """The parameters after three updates with every `count`-th of eight images from `place` on."""
    torch.manual_seed(0)
    last = nn.Linear(16, 3)
    if form != "projection":  # which changes no parametrised weight
        last = parametrizations.weight_norm(last)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), last]
    model: nn.Module = nn.Sequential(*layers).double()
    own = list(model.parameters())
    if count > 1:
        model = DistributedDataParallel(model, bucket_cap_mb=1e-5)  # several buckets, as in the issue below
    if form == "compiled":
        model = torch.compile(model, backend="aot_eager")  # type: ignore[assignment]
    if form == "operator":
        penalty = SpectralNormPenalty(model, 0.5, operator=True, input_shape=(2, 4, 4))
    else:
        penalty = SpectralNormPenalty(model, 0.5)
    projections = [SpectralHardCap(model, 0.4), SpectralHammer(model, 0.3)] if form == "projection" else []
    optimizer = torch.optim.SGD(own, 0.1)
    x = torch.randn(8, 2, 4, 4, dtype=torch.float64)[place::count]
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        if form == "gradient":
            loss.backward()
            penalty.add_gradient_()
        else:
            (loss + penalty()).backward()
        optimizer.step()
        for projection in projections:
            projection.apply_(0.1)
    return [parameter.detach() for parameter in own]


def worker(rank: int, folder: str) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    distributed._DEFAULT_FIRST_BUCKET_BYTES = 1
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save({form: trained(form, rank, 2) for form in FORMS}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
