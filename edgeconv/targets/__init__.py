"""Kinds of devices as data: ``targets/*.yaml``, and the user's own."""
