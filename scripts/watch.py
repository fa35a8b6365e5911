"""Live curves of running experiments in TensorBoard, without account and network.

python scripts/watch.py [RESULTS] [--experiment NAME] [--port 6006] [--every SECONDS]
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from contextlib import suppress
from pathlib import Path

from sns.common.command import Parser, reports_errors
from sns.common.errors import UserError


@reports_errors
def main(arguments: list[str] | None = None) -> int:
    """0 when interrupted."""
    parser = Parser(description="Live curves of running experiments in TensorBoard.")
    parser.add_argument(
        "results", nargs="?", type=Path, default=Path("results"), help="results folder; default results"
    )
    parser.add_argument("--experiment", help="only this folder under RESULTS/runs")
    parser.add_argument("--port", type=int, default=6006, help="of TensorBoard; default 6006")
    parser.add_argument(
        "--every", type=float, default=10.0, help="seconds between two updates of the curves; default 10"
    )
    options = parser.parse_args(arguments)
    runs = options.results / "runs" / (options.experiment or "")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # ends the server too
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("tensorboard is not installed; pip install -e '.[track]', or use make watch")
    if not options.results.is_dir():
        raise UserError(f"{options.results} does not exist; give the results folder that holds runs/")
    _require_port(options.port)
    with suppress(KeyboardInterrupt):
        serve(runs, options.port, options.every)
    return 0


def serve(runs: Path, port: int, every: float) -> None:
    """TensorBoard on event files in a temporary folder that follow `runs`."""
    from sns.track.events import EventFiles

    with tempfile.TemporaryDirectory(prefix="sns-watch-") as folder:
        events = EventFiles(runs, Path(folder))
        count = events.update()
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", str(port)]
        command += ["--host", "127.0.0.1", "--reload_interval", str(max(1, round(every)))]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _announce(runs, count, port)
            while server.poll() is None:
                time.sleep(every)
                events.update()
            raise UserError(f"TensorBoard ended with exit code {server.returncode}; try another --port")
        finally:
            server.terminate()
            server.wait()
            events.close()


def _require_port(port: int) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"port {port} is in use; name another with --port")


def _announce(runs: Path, count: int, port: int) -> None:
    address = f"http://127.0.0.1:{port}/#timeseries"
    print(f"{count} runs below {runs}; the axis counts evaluations (epochs where measure.every is 1)")
    print(f"open {address} (Ctrl-C ends)", flush=True)
    if os.environ.get("SSH_CONNECTION"):
        print(f"from your own machine: ssh -N -L {port}:127.0.0.1:{port} {os.uname().nodename}", flush=True)
    elif os.environ.get("DISPLAY") or sys.platform == "darwin":
        webbrowser.open(address)


if __name__ == "__main__":
    sys.exit(main())
