"""What algorithms optimise, as pure functions of arrays and tensors: nothing here samples, logs or keeps state."""
