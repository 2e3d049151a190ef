"""Networks of the field that spandrel does not know: our modules for the authors' state dicts."""
