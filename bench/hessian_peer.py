"""The largest Hessian eigenvalue of trained digits networks, ours against pyhessian's, to one tolerance.

python bench/hessian_peer.py [--epochs 4] [--samples 200]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-6


def main() -> None:
    """Prints both eigenvalues and their ratio, a row a setting."""
    parser = argparse.ArgumentParser(description="Hessian eigenvalue against pyhessian.")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    try:
        from pyhessian import hessian
    except ImportError:
        sys.exit("error: pyhessian is not installed; it is needed for this comparison only: pip install pyhessian")
    from sns.config import MeasureConfig
    from sns.measure.hessian import hessian_eigenvalue
    from sns.train.run import configure, run
    from sns.train.session import start

    for setting in ("digits_vgg", "digits_nin", "digits_densenet"):
        with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            overrides = [
                f"setting={setting}",
                f"results={folder}",
                f"train.epochs={options.epochs}",
                "train.device=cpu",
            ]
            quiet = ["train.progress=none", "measure.hessian=false", "measure.spectra=false"]
            config = configure(compose("config", overrides=[*overrides, *quiet]))
            run(config)
            session = start(config)
        x, y = (part[: options.samples] for part in (session.dataset.train.x, session.dataset.train.y))
        measure = MeasureConfig(hessian_tolerance=TOLERANCE, hessian_iterations=1_000)
        ours = hessian_eigenvalue(session.model, x, y, measure, torch.Generator().manual_seed(0)).eigenvalue
        session.model.eval()
        peer = hessian(session.model, torch.nn.CrossEntropyLoss(), data=(x, y), cuda=False)
        (theirs,), _ = peer.eigenvalues(maxIter=1_000, tol=TOLERANCE)
        print(f"{setting:16} ours {ours:.6g}  pyhessian {theirs:.6g}  ratio {ours / theirs:.8f}", flush=True)


if __name__ == "__main__":
    main()
