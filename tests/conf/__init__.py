"""Tests of the modules in conf/."""
