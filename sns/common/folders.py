"""The project's own folders, in a checkout, in an editable install and in an installed wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = (PACKAGE / "configs").is_dir()  # a wheel has the folders inside sns/: pyproject.toml


def project_folder(name: str) -> Path:
    """The folder `name` of the project. A wheel has configs, scripts and results/paper only."""
    return (PACKAGE if INSTALLED else PACKAGE.parent) / name


def command_words(name: str) -> list[str]:
    """The first words of the command that runs scripts/`name`.py, as a user writes them."""
    return ["python", "-m", "sns", name] if INSTALLED else ["python", f"scripts/{name}.py"]
