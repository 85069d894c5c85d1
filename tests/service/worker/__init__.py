"""The worker: frames, settlements, children and whole worker processes on a temporary database."""
