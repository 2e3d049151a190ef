"""The store's changes that must happen as a whole, as Lua scripts that Redis runs one at a time.

A client that lost the connection sends a script again without knowing whether it ran: each one that writes
for an attempt gives the same answer when it is run twice.
"""
