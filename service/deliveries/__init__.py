"""Deliveries: results that are sent to where their customers want them."""
