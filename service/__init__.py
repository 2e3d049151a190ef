"""The HTTP API and its web page. No torch in this process."""
