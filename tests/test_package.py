"""What is built and installed: wheel, sdist, types, size, what is imported."""

from __future__ import annotations

import email
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import measure_install
import pytest
from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
LARGEST_BYTES = 350_000_000
HEAVY = {
    "PIL", "aiohttp", "hdrh", "isal", "msgspec", "numpy", "onnxruntime", "orjson", "polars",
    "pyarrow", "pybase64", "ray", "tenacity", "yaml",
}  # fmt: skip


def build(kind: str, source: Path, out: Path) -> Path:
    """A wheel or an sdist, made as every front end makes it, but without a network."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("built")
    return build("wheel", ROOT, folder / "wheel"), build("sdist", ROOT, folder / "sdist")


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_holds_the_package_and_nothing_else(built):
    """Each file of the package is in the wheel, data, types and licence too, and no other is."""
    files = contents(built[0])
    inside = {name for name in files if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "batchscore").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == wanted
    assert {"batchscore/py.typed", "batchscore/cli/config.schema.json"} <= inside
    names = {name.partition(".dist-info/")[2] for name in files.keys() - inside}
    assert names == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_metadata_of_the_wheel_is_valid(built):
    """Names, versions, licence and markers are as the standard asks; the README is whole."""
    files = contents(built[0])
    (text,) = (data for name, data in files.items() if name.endswith("/METADATA"))
    metadata = Metadata.from_email(text, validate=True)
    assert metadata.description == (ROOT / "README.md").read_text()
    assert email.message_from_bytes(text)["Description-Content-Type"] == "text/markdown"
    assert {str(need) for need in metadata.requires_dist or () if need.marker is None} >= {
        "pyarrow>=26"
    }


def test_an_sdist_builds_the_same_wheel(built, tmp_path):
    """Whoever builds from the sdist gets the wheel of the checkout, byte for byte."""
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert not list(folder.rglob("__pycache__"))
    assert (folder / "tests").is_dir()
    again = build("wheel", folder, tmp_path / "out")
    assert contents(again) == contents(built[0])


def test_the_types_of_the_public_api_hold_in_an_installed_wheel(built, tmp_path):
    """In an environment that has the wheel alone, mypy --strict agrees with each assertion."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    )
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(packages)
    # What it needs is found where it is installed; its own name comes from the wheel.
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    file = shutil.copy(ROOT / "tests" / "typing" / "public_api.py", tmp_path)
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\n[mypy-pyarrow.*]\nignore_missing_imports = True\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--config-file", "mypy.ini",
            "--python-executable", environment / "bin" / "python", file,
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_core_install_is_small():
    """All that pip installs without extras stays below 350 MB; the largest parts are told."""
    packages = measure_install.core_packages()
    largest = dict(sorted(packages.items(), key=lambda item: -item[1])[:5])
    assert {"batchscore", "pyarrow", "numpy", "cyclopts", "aiohappyeyeballs"} <= packages.keys()
    assert packages["pyarrow"] > 50_000_000
    assert sum(packages.values()) < LARGEST_BYTES, largest


@pytest.mark.parametrize(
    "words",
    [
        ["--version"], ["--help"], ["score", "--help"], ["check", "--help"], ["rescore", "--help"],
        ["bench", "--help"], ["inspect", "--help"], ["serve", "--help"], ["demo", "--help"],
        ["completion", "bash"], ["completion", "toml"], ["score", "--print-config"], ["scor"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_only_talks_imports_nothing_heavy(words):
    """Help, version, completion and a slip of the finger come without PyArrow, NumPy or aiohttp."""
    program = (
        "import json, sys\n"
        "from batchscore.cli import app\n"
        f"app.run({words})\n"
        "print('\\n' + json.dumps(list(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = json.loads(done.stdout.splitlines()[-1])
    assert HEAVY.isdisjoint({name.partition(".")[0] for name in modules})
