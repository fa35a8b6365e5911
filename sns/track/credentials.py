"""Whether and how to track, decided without importing wandb, which takes a second or more."""

import importlib.util
import netrc
import os
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from sns.common.errors import first_line
from sns.config.schema import TrackConfig

SERVER = "https://api.wandb.ai"
ANSWER = 10.0  # seconds for the server's first answer
FORCED = {"online": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}  # WANDB_MODE


def choose_mode(track: TrackConfig) -> tuple[str, str]:
    """The mode (online | offline | disabled), and the reason for the user."""
    mode, reason = track.mode, f"track.mode={track.mode}"
    if mode == "auto" and (forced := FORCED.get(os.environ.get("WANDB_MODE", ""))):
        mode, reason = forced, f"WANDB_MODE={os.environ['WANDB_MODE']}"
    if mode == "disabled":
        return mode, reason
    if importlib.util.find_spec("wandb") is None:
        return "disabled", "wandb is not installed: pip install wandb"
    if mode == "offline":
        return mode, f"{reason}; make sync uploads"
    place = credentials()
    if place is None:
        return "offline", "no credentials (wandb login, or WANDB_API_KEY, then make sync uploads)"
    return "online", f"credentials in {place}"


def credentials() -> str | None:
    """Where the key for the server is stored, or None."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        if os.environ.get(name):
            return name
    host = urlsplit(server_address()).netloc
    file = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        entry = netrc.netrc(file).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return file if entry else None


def server_address() -> str:
    """The server in use."""
    return os.environ.get("WANDB_BASE_URL") or SERVER


def connection_fault(server: str) -> str | None:
    """Why the server cannot be reached, or None; any answer counts."""
    try:
        urllib.request.urlopen(server, timeout=ANSWER).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return first_line(error)
    return None
