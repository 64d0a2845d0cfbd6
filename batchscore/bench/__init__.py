"""Measuring a deployment: load, times of each request, figures, and whether they can be trusted."""
