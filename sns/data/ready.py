"""Whether a data set can be read here, asked before a run starts and without reading its images."""

from sns.config.schema import DataConfig
from sns.data import archives, npz


def require(config: DataConfig) -> None:
    """Downloads or unpacks the data set if it must be. DataError, in one sentence, if it cannot be
    had. Data sets of other readers are not checked."""
    if config.name in archives.CLASSES:
        archives.fetch(config)
    elif config.name == "npz":
        with npz.opened(config):
            pass
