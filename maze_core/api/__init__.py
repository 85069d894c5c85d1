"""The façade that Python users hold."""
