"""Programs that tests of the service run in processes of their own."""
