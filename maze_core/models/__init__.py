"""Networks, policies and critics: programs as data, run by numpy where they act and where they learn."""
