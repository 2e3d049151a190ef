"""Segments made one by one, on any worker, with the bytes that a whole run writes."""
