"""A small classifier in float64, its batch, and the risk that a task would give to a method."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sns import method as methods
from sns.method import Method
from sns.method.base import Risk, Sums, Term, no_term
from sns.model.ghost_norm import GhostBatchNorm2d


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, padding=1), GhostBatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, bias=False)]
    layers += [nn.Dropout(dropout), nn.Flatten(), nn.Linear(5 * 3 * 3, 3)]
    return nn.Sequential(*layers).double()


def batch(n: int = 12) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 8, 8, generator=g, dtype=torch.float64), torch.randint(0, 3, (n,), generator=g)


def risk(model: nn.Module, y: Tensor) -> Risk:
    """The risk of a classifier with labels y, as the task defines it; in float64."""

    def of(x: Tensor, share: float, term: Term = no_term) -> Sums:
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        ((loss + term(logits)) * share).backward()
        return {"loss": loss.detach() * len(y), "correct": (logits.argmax(1) == y).sum()}

    return of


def make(options: Any, model: nn.Module) -> Method:
    return methods.build(options, model, torch.Generator().manual_seed(2))


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]
