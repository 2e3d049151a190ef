"""One run over one video: reading, restoring and writing at the same time, resumable."""
