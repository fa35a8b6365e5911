"""The six settings of Adam in Miyato et al. 2018 (section 4.1, table 1): optim=adam_a to adam_f.

The discriminator's updates for each of the generator, their n_dis, are in configs/optim.
"""

from dataclasses import dataclass, field, make_dataclass
from functools import partial
from typing import Any

from sns.optim.adam import Adam, AdamOptions
from sns.optim.base import register

SETTINGS = {  # learning rate, beta1, beta2
    "a": (1e-4, 0.5, 0.9),
    "b": (1e-4, 0.5, 0.999),
    "c": (2e-4, 0.5, 0.999),
    "d": (1e-3, 0.5, 0.9),
    "e": (1e-3, 0.5, 0.999),
    "f": (1e-3, 0.9, 0.999),
}


@dataclass
class AdamSettingOptions(AdamOptions):
    """The rate does not drop, as in the paper."""

    drops: list[float] = field(default_factory=list)


def _options(letter: str, lr: float, betas: tuple[float, float]) -> type:
    values: list[tuple[str, Any, Any]] = [
        ("name", str, f"adam_{letter}"),
        ("lr", float, lr),
        ("betas", list[float], field(default_factory=partial(list, betas))),
    ]
    return make_dataclass(f"Adam{letter.upper()}Options", values, bases=(AdamSettingOptions,))


for letter, (lr, *betas) in SETTINGS.items():
    options = _options(letter, lr, (betas[0], betas[1]))
    register(f"adam_{letter}")(type(f"Adam{letter.upper()}", (Adam,), {"Config": options}))
