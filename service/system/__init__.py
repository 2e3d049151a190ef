"""The server about itself: health, metrics, who asks."""
