"""Runs, their life and their use cases in plain Python: no web, no database, no tensors."""
