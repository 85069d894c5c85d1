"""The HTTP face: requests in, use cases called, typed answers and problems out. No logic of its own."""
