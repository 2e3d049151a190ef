"""A typed client of Dovetail's HTTP API."""
