"""A model with every kind of layer."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Mixed(nn.Module):
    """Every kind of layer once, tied, parametrised, frozen and unused weights, and two that are no
    matrices. Only its parameters matter here."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.tied = nn.Linear(4, 7, bias=False)
        self.again = nn.Linear(4, 7)
        self.again.weight = self.tied.weight
        self.shared = nn.ModuleList([self.tied])
        self.attention = nn.MultiheadAttention(4, 2)
        self.cross = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        self.lstm, self.cell = nn.LSTM(3, 4, proj_size=2), nn.GRUCell(3, 4)
        self.flat, self.volume = nn.Conv1d(2, 3, 3), nn.Conv3d(2, 3, 2)
        self.up, self.up_groups = nn.ConvTranspose2d(3, 5, 3), nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.grouped = nn.Conv2d(6, 4, 3, groups=2)
        self.normalized = parametrizations.weight_norm(nn.Linear(6, 3))
        self.frozen = nn.Linear(2, 2)
        self.frozen.weight.requires_grad_(False)
        self.bilinear = nn.Bilinear(2, 3, 4)
        self.norm = nn.BatchNorm2d(3)
        self.double()
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))

    def matrices(self) -> Iterator[Tensor]:
        """The trained matrices, with a graph, written out by hand."""
        yield self.tied.weight
        yield from self.attention.in_proj_weight.chunk(3)
        yield self.attention.out_proj.weight
        yield from (self.cross.q_proj_weight, self.cross.k_proj_weight, self.cross.v_proj_weight)
        yield self.cross.out_proj.weight
        yield from (*self.lstm.weight_ih_l0.chunk(4), *self.lstm.weight_hh_l0.chunk(4), self.lstm.weight_hr_l0)
        yield from (*self.cell.weight_ih.chunk(3), *self.cell.weight_hh.chunk(3))
        yield from (self.flat.weight.flatten(1), self.volume.weight.flatten(1))
        yield self.up.weight.transpose(0, 1).flatten(1)
        yield torch.block_diag(*(w.transpose(0, 1).flatten(1) for w in self.up_groups.weight.chunk(2)))
        yield torch.block_diag(*(w.flatten(1) for w in self.grouped.weight.chunk(2)))
        yield self.normalized.weight
