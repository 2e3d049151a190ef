"""Webhooks: telling customers by Standard Webhooks what became of their jobs."""
