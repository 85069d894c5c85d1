"""Tests of environments, and small environments for tests."""
