"""Acting in environments: the collector of training, the one loop of inference, and recorded trajectories."""
