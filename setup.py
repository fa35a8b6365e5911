"""The packages of a wheel; everything else stands in pyproject.toml.

A wheel has configs, scripts and the paper's data inside sns/, where sns/common/folders.py finds
them.
"""

from pathlib import Path

from setuptools import find_namespace_packages, setup

FOLDERS = [Path(name) for name in ("configs", "scripts", "results/paper", "results/bakeoff", "results/sngan")]
FOLDERS += [path for path in Path("configs").rglob("*") if path.is_dir()]
INSIDE = {".".join(("sns", *folder.parts)): folder.as_posix() for folder in FOLDERS}

setup(
    packages=[*find_namespace_packages(include=["sns*", "hydra_plugins*"]), *INSIDE],
    package_dir=INSIDE,
    package_data={"": ["*.yaml", "*.csv", "*.txt", "*.html.j2", "job.sh"]},
)
