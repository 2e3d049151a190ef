"""Batches: many inputs in one request."""
