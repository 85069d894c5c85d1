"""Environments: what one is, how a batch of them is stepped, and the wrappers around them."""
