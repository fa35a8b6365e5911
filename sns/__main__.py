"""Every script of the project from any folder.

python -m sns NAME ...      the same as python scripts/NAME.py ... in a checkout
"""

import runpy
import sys

from sns.common.folders import project_folder

EXTRAS = {  # of pyproject.toml: what a script needs beyond torch
    "referee": "train,report",
    **dict.fromkeys(("gpu_check", "measure", "plan", "status", "train", "validate_scores"), "train"),
    **dict.fromkeys(("bakeoff", "claims", "errata", "figures", "publish", "report"), "report"),
    **dict.fromkeys(("scores", "sensitivity", "sngan", "summary", "table1", "verify"), "report"),
    **dict.fromkeys(("sync", "wandb_dashboard", "watch"), "track"),
}


def main() -> int:
    """Runs the script that the first argument names, with the other arguments."""
    scripts = project_folder("scripts")
    names = sorted(path.stem for path in scripts.glob("*.py"))
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: python -m sns NAME ...\n\nNAME is one of {', '.join(names)}; NAME --help explains one.")
        return 0
    if name not in names:
        print(f"error: there is no command {name}; choose one of {', '.join(names)}", file=sys.stderr)
        return 1
    path = str(scripts / f"{name}.py")
    sys.argv = [path, *arguments]  # as if Python had been given the script
    sys.path.insert(0, str(scripts))
    try:
        runpy.run_path(path, run_name="__main__")
    except ModuleNotFoundError as error:
        if name not in EXTRAS or (error.name or "").startswith("sns"):
            raise
        what = f"spectral-norm-regularization[{EXTRAS[name]}]"
        print(f"error: {name} needs {error.name}, which is not installed: pip install '{what}'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
