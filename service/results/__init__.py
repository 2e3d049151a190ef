"""What customers get back: the file, the growing stream, playlists, pictures, the upload, the report."""
