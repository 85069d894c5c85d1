"""Claims runs, gives each a child process, writes what the child reports, and settles how it ended.

The worker process holds the database and no tensors; a run's child holds tensors and no database.
"""
