"""Prints the seconds from the start of this process to its first update, and of a second run.

python bench/first_step.py WHEN # WHEN: time.time() just before the process was started
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]


def main(launched: float) -> None:
    """One line: both times."""
    import train  # noqa: F401  the imports of the command line

    first = _step(0) - launched
    again = time.time()
    print(first, _step(1) - again)


def _step(seed: int) -> float:
    """The time at the end of the first update of a new run."""
    from hydra import compose, initialize_config_dir

    from sns.train.configure import configure
    from sns.train.run import advance
    from sns.train.session import start

    with TemporaryDirectory() as folder:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            overrides = ["setting=digits_vgg", f"results={folder}", f"seed={seed}", "train.device=auto"]
            config = configure(compose("config", overrides=overrides))
        session = start(config)
        session.task.model.train()
        advance(session)
        session.task.running.sums["loss"].item()
        return time.time()


if __name__ == "__main__":
    main(float(sys.argv[1]))
