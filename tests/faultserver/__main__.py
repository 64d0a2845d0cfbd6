"""``python -m faultserver``; see ``process``."""

from __future__ import annotations

from faultserver.process import main

if __name__ == "__main__":
    main()
