"""Install real model servers for the tests: ``python tests/servers/install.py [NAME...]``.

Each gets a virtual environment of its own below ``$MODEL_SERVERS_FOLDER`` (by default
``~/.cache/batchscore/servers``), with the packages of ``requirements/NAME.txt``. Without names, all
of them. What is installed already and up to date is left alone.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The minor versions of Python 3 that each of them installs on.
PYTHONS = {
    "mlflow": range(11, 15),
    "kserve": range(11, 14),
    "mlserver": range(11, 13),
    "triton": range(11, 13),
}
NAMES = tuple(PYTHONS)
COMMAND = "python tests/servers/install.py"


def place(name: str) -> Path:
    """The folder of a server's environment."""
    root = (
        os.environ.get("MODEL_SERVERS_FOLDER") or Path.home() / ".cache" / "batchscore" / "servers"
    )
    return Path(root).expanduser().resolve() / name


def python(name: str) -> Path:
    """The Python of a server's environment."""
    return place(name) / "bin" / "python"


def missing(name: str) -> str | None:
    """Why a server cannot be started, and the command that helps; None: it is installed."""
    stamp = _stamp(name)
    if not stamp.exists():
        return f"{name} is not installed: {COMMAND} {name}"
    if stamp.read_text() != _fingerprint(name):
        return f"{name} is installed in other versions than its requirements: {COMMAND} {name}"
    return None


def install(name: str) -> None:
    """Make a server's environment, unless it is there and up to date.

    Raises:
        SystemExit: no Python serves, or pip failed.
    """
    folder = place(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests of two checkouts may want the same
        if missing(name) is None:
            _say(f"{name}: up to date in {folder}")
            return
        began = time.monotonic()
        interpreter = _interpreter(name)
        _say(f"{name}: installing into {folder} with {interpreter}")
        shutil.rmtree(folder, ignore_errors=True)
        _run(name, interpreter, "-m", "venv", str(folder))
        _run(name, str(python(name)), "-m", "pip", "install", "--quiet", "--requirement",
             str(_requirements(name)))  # fmt: skip
        _stamp(name).write_text(_fingerprint(name))
        _say(f"{name}: installed in {time.monotonic() - began:.0f} s, {_size(folder)} MB")


def _requirements(name: str) -> Path:
    return HERE / "requirements" / f"{name}.txt"


def _stamp(name: str) -> Path:
    return place(name) / "installed.sha256"


def _fingerprint(name: str) -> str:
    return hashlib.sha256(_requirements(name).read_bytes()).hexdigest()


def _interpreter(name: str) -> str:
    """A Python that the server's packages install on; this one where it does."""
    minors = PYTHONS[name]
    if sys.version_info.major == 3 and sys.version_info.minor in minors:
        return sys.executable
    for minor in minors:
        if found := shutil.which(f"python3.{minor}"):
            return found
    raise SystemExit(
        f"{name} needs Python 3.{minors[0]} to 3.{minors[-1]}, and this is "
        f"{sys.version.split()[0]}: put one on the PATH, or run this with it"
    )


def _run(name: str, *command: str) -> None:
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode:
        raise SystemExit(f"{name}: this failed, see above: {' '.join(command)}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is the command's output


def _size(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) // 1_000_000


def main() -> None:
    """Install what the command line names."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    names = parser.parse_args().names or NAMES
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"no such server: {', '.join(unknown)} (there are {', '.join(NAMES)})")
    for name in names:
        install(name)


if __name__ == "__main__":
    main()
