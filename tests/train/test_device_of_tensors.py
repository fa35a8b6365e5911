"""All that an update computes is on the GPU and waits for nothing, shown by tensors without data.

A fake tensor has a shape and a device only. Operations on two devices raise, and so does reading a
value. Fake tensors need no GPU, only a torch that is built for CUDA; backward
passes need one, so the gradients are made by hand.
"""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from conftest import compose_tree
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily
from torch.nn import functional as F

from sns import method as methods
from sns.common import accelerator
from sns.common.accelerator import Accelerator
from sns.data.augment import crop_and_flip
from sns.method.adversarial import perturbation
from sns.model import MODELS
from sns.task.running import Running
from sns.train.configure import configure

pytestmark = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="torch is built without CUDA")
GPU = torch.device("cuda", 0)
SETTINGS = {"vgg_cifar10": (32, 10), "nin_cifar100": (32, 100), "densenet40_cifar100": (32, 100)}
SETTINGS |= {"densenet22_stl10": (96, 10)}  # side of an image, classes


class OneStream(Accelerator):
    """A GPU as far as fake tensors need one."""

    host = False
    captures = True


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    accelerator.use(OneStream)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    accelerator.use(None)


def network(setting: str, *words: str) -> nn.Module:
    config = configure(compose_tree(f"setting={setting}", *words))
    with unset_fake_temporarily(), torch.device("meta"):
        model = MODELS[config.model.name](config.model, 3, *SETTINGS[setting], config.batch.ghost)
    for module in model.modules():  # Module.to cannot make fake tensors
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty_like(parameter, device=GPU)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU))
    return model


@pytest.mark.parametrize(
    ("setting", "words"), [*((name, ()) for name in SETTINGS), ("densenet40_cifar100", ("model.statistics=once",))]
)
def test_passes_stay_on_the_device(setting: str, words: tuple[str, ...]) -> None:
    model, side = network(setting, *words), SETTINGS[setting][0]
    x, y = torch.zeros(4, 3, side, side, device=GPU), torch.zeros(4, dtype=torch.int64, device=GPU)
    x = crop_and_flip(x, 4, True, torch.Generator())
    running = Running(GPU, {"loss": torch.float64, "correct": torch.int64})
    for training in (True, False):
        logits = model.train(training)(x)
        loss = F.cross_entropy(logits, y)
        assert logits.device == loss.device == GPU
        running.note({"loss": loss.detach(), "correct": (logits.argmax(dim=1) == y).sum()}, loss.detach())
    assert perturbation(x, 1.0).device == GPU
    with pytest.raises(DataDependentOutputException):
        running.mean("loss")


@pytest.mark.parametrize("method", ["decay", "spectral"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_penalties_stay_on_the_device(setting: str, method: str) -> None:
    model, side = network(setting), SETTINGS[setting][0]
    config = configure(compose_tree(f"setting={setting}", f"method={method}"))
    penalty = methods.build(config.method, model, torch.Generator())
    penalty.backward(lambda x, share: {}, torch.zeros(1, 3, side, side, device=GPU), 1.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    value = penalty.regularize()
    assert value is not None
    assert value.device == GPU
    penalty.project()
    assert all(tensor.device == GPU for tensor in penalty.state_dict().values())


def at_fault(fault: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    model = nn.Sequential(nn.Linear(2, 2, device=GPU))
    model.register_forward_hook(lambda module, inputs, output: fault(output))
    out: Tensor = model(x)
    return out


@pytest.mark.parametrize("fault", [lambda x: x + torch.ones(2), lambda x: x * x.sum().item(), lambda x: x[x > 0]])
def test_a_tensor_on_the_host_and_a_wait_are_seen(fault: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises((RuntimeError, DataDependentOutputException), match=r"device|item|Dynamic|data-dependent|aten"):
        at_fault(fault, torch.zeros(3, 2, device=GPU))
    assert at_fault(partial(torch.mul, 2.0), torch.zeros(3, 2, device=GPU)).device == GPU
