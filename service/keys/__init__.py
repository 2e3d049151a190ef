"""API keys over HTTP, for whoever may do everything."""
