"""Whole jobs under a seeded simulation of clock, network and disk.

Reader, pipeline, isolation, limiter, partial file and exporters are the real ones. The event loop
runs on virtual time (``loop``), the disk forgets what was not synced and can stop at any write
(``disk``), the deployment fails in every way that ``deployment`` knows. ``plan`` draws from a seed
what a job is like and what happens to it, ``world`` lives through it and checks every row.

::

    PYTHONPATH=tests python -m simulation 4711              # replays a seed, telling what happens
    PYTHONPATH=tests python -m simulation --seeds 100000    # the slow lane
"""
