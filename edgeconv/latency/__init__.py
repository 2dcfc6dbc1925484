"""Latency that can be believed: regression verdicts with known error rates, from samples taken together."""
