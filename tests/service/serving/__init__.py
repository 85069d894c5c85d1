"""Tests of acting over HTTP."""
