"""Commands of this project's developers: `python -m tools.<name>`."""
