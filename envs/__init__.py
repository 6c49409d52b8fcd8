"""Environments in which an agent must look in order to act. Importing this registers them with Gymnasium.

>>> import gymnasium, envs
>>> env = gymnasium.make("Saccade/EyeSearch-v0")
>>> batch = gymnasium.make_vec("Saccade/EyeSearch-v0", num_envs=64, vectorization_mode="vector_entry_point")
"""

from envs.registry import register

register()
