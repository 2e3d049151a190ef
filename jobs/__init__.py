"""What API and workers share: job records, the Redis store, the queue, object storage, settings."""
