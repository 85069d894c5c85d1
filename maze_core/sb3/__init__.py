"""Policies of Stable-Baselines3 come in: its files are read, and neither it nor a pickle of a model is loaded."""
