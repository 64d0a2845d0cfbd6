"""Toy extensions of batchscore: an input format, a protocol and an output format."""
