"""Resumable uploads by the tus protocol, 1.0 (docs/decisions/0013-own-tus.md says why it is our own)."""
