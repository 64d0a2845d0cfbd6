"""Draw the pictures of docs/reports.md, by headless Chromium, from figures that are known.

    python scripts/draw_report_pages.py

They are no measurements: the benchmark is that of queueing theory, the job is made up.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from pages import browser, sample  # noqa: E402 - the folder above holds the tests' packages

from batchscore.report_page import page  # noqa: E402

PICTURES = {
    "report-bench.png": (sample.bench_report, 1280, 2460, False),
    "report-job.png": (sample.job_report, 1280, 1180, True),
    "report-phone.png": (sample.job_report, 360, 1180, False),
}


def main() -> int:
    """Draw all; 1 where there is no Chromium."""
    if browser.CHROMIUM is None:
        print(browser.INSTALL, file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp())
    try:
        for name, (report, width, height, is_dark) in PICTURES.items():
            file = folder / "page.html"
            file.write_text(page(report()), encoding="utf-8")
            shot = browser.screenshot(file, width, height, folder / name, is_dark=is_dark)
            with Image.open(shot) as image:
                small = image.convert("RGB").crop((0, 0, width, height)).quantize(200)
                small.save(ROOT / "docs" / name, optimize=True)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
