"""Several processes for one job: the first reads, writes and scores, the others score.

``pool`` is the first one's side, ``worker`` the others', ``messages`` what they say to each other
and ``link`` how it travels.
"""
