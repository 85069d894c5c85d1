"""The verbs, each a straight line: build the parts, then train, roll out or evaluate."""
