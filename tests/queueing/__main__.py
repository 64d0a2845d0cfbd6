"""``python -m queueing``; see ``server``."""

from __future__ import annotations

from queueing.server import main

if __name__ == "__main__":
    main()
