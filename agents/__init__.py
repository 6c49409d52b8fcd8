"""Agents: policies, how they are trained, evaluated, recorded and replayed. Nothing in here imports the environments."""
