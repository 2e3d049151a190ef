"""How clips are cut into chunks and tiles so that they fit the memory at hand.

Arithmetic only, no torch: the API makes its estimates with it.
"""
