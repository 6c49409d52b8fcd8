"""Hydra configuration as data, found as pkg://conf: one yaml per thing, in groups."""
