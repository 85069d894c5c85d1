"""Networks, policies and critics: described once, run by torch in training and by numpy when acting."""
