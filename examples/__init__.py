"""Examples: an environment of one's own, and configuration modules of one's own."""
