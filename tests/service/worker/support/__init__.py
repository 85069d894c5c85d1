"""What the worker processes of these tests run."""
