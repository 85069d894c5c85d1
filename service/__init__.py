"""The REST service over maze_core: API, worker, store and serving around a domain of plain Python."""
