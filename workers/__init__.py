"""From a file to a larger file: reader, model and writer in threads, segments, resume, reports."""
