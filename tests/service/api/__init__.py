"""The HTTP face, against the real application on a real database."""
