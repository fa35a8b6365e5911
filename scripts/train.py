"""Trains one run, or with -m every run of a grid. See configs/config.yaml for what can be set.

python scripts/train.py setting=vgg_cifar10 method=spectral batch=large seed=1
python scripts/train.py -m experiment=demo
"""

import shlex
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sns.errors import UserError
from sns.train.run import configure, run
from sns.train.signals import RESUMABLE, Interrupted

failures: list[str] = []


@hydra.main(version_base="1.3", config_path="../configs", config_name="config")
def train(tree: DictConfig) -> None:
    """One run of the grid; a fault of one run never stops the others."""
    overrides = list(HydraConfig.get().overrides.task)
    command = shlex.join(["python", "scripts/train.py", *overrides])
    try:
        run(configure(tree), command)
    except UserError as error:
        failures.append(str(error))
        print(f"error: {error} [{' '.join(overrides)}]", file=sys.stderr)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(RESUMABLE)


if __name__ == "__main__":
    train()
    sys.exit(1 if failures else 0)
