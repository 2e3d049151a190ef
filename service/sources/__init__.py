"""Sources: where a job's video comes from when it is not in the request."""
