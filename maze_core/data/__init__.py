"""Data as it lies in memory and travels: spaces, values checked against them, records of experience."""
