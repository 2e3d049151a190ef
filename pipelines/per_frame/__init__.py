"""Networks that restore frames one by one, of every architecture that spandrel knows."""
