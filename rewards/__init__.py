"""Rewards as pure functions of recorded transitions. No simulator in here, so any reward can be recomputed later."""
