"""Measurements of the suite: every figure in the documentation comes from a command in this package."""
