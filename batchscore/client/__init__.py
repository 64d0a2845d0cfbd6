"""Sending requests: transport, token, limiter, retry."""
