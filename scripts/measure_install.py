"""What ``pip install batchscore`` puts on the disk, without extras: each package in MB.

    python scripts/measure_install.py

It adds up the files of the packages that are installed beside this Python.
"""

from __future__ import annotations

from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

import batchscore

NAME = "batchscore"


def core_packages() -> dict[str, int]:
    """The bytes of the package and of all that it cannot do without, by name."""
    sizes = {NAME: _bytes(Path(batchscore.__file__).parent.rglob("*"))}
    waiting = _needed(distribution(NAME))
    while waiting:
        name = waiting.pop()
        if name not in sizes:
            found = distribution(name)
            sizes[name] = _bytes(Path(str(file.locate())) for file in found.files or ())
            waiting += _needed(found)
    return sizes


def _needed(found: Distribution) -> list[str]:
    """The packages that one asks for, extras of theirs counted in; not its own extras."""
    wanted = map(Requirement, found.requires or ())
    return [
        need.name.lower()
        for need in wanted
        if need.marker is None or need.marker.evaluate({"extra": ""})
    ]


def _bytes(files: object) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())  # type: ignore[attr-defined]


if __name__ == "__main__":
    packages = core_packages()
    for name, size in sorted(packages.items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:8.1f} MB  {name}")
    print(f"{sum(packages.values()) / 1e6:8.1f} MB  in all")
