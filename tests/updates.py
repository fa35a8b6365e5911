"""A few updates of a small run, and the state that they leave."""

from collections.abc import Callable

import torch
from conftest import TINY, compose_tree
from torch import Tensor

from sns.common.precision import training_precision
from sns.config.schema import Config
from sns.train.configure import configure
from sns.train.run import advance
from sns.train.session import Session, start

Make = Callable[..., Config]
SECOND_ORDER = ("jacobian", "layerwise_jacobian")  # their random directions differ by device; not to be compiled
PROJECTIONS = (
    "lipschitz_projection",
    "spectral_decay",
    "spectral_hammer",
    "spectral_soft_cap",
    "spectral_hard_cap",
)
METHODS = ("vanilla", "decay", "adversarial", "spectral", "spectral_operator", "sam", *SECOND_ORDER, *PROJECTIONS)
METHODS += ("orthonormal", "sigma_reparam", "spectral_normalization", "stable_rank", "unit_sigma")
SPLIT = ("batch=large", "batch.size=32", "batch.ghost=8", "batch.micro=16")
AUGMENT = ("data.crop_padding=1", "data.flip=true")


def small(setting: str, *overrides: str) -> Config:
    """A setting, trained on few images."""
    general = [text for text in TINY if not text.startswith(("setting=", "model."))]
    return configure(compose_tree(*general, f"setting={setting}", *overrides))


def trained(config: Config, updates: int = 6) -> Session:
    session = start(config)
    session.task.model.train()
    with training_precision(config.train.precision):  # cuDNN's default is TensorFloat-32
        for _ in range(updates):
            advance(session)
    return session


def state(session: Session) -> dict[str, Tensor]:
    tensors = dict(session.task.model.state_dict()) | {
        f"method {k}": v for k, v in session.task.method.state_dict().items()
    }
    tensors |= {f"momentum {i}": b for i, b in enumerate(session.task.optimizers[0].buffers)}
    return tensors | {
        "loss": session.task.running.sums["loss"],
        "correct": session.task.running.sums["correct"],
        "step": session.task.running.step,
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether both have the same tensors, bit by bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
