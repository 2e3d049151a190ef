"""The store's changes that must happen as a whole, as Lua scripts that Redis runs one at a time.

A client that lost the connection sends a script again without knowing whether it ran: each one gives the same
answer when it is run twice, and changes nothing the second time. Most see it from the record; the others end
with `once` (`prelude.py`).
"""
