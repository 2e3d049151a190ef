"""Models that were pulled from a hub or a web server, each under a name in one folder.

Finding, checking and removing them is here; `pipelines.store.pulling` fetches, and imports what speaks to
servers.
"""

from pipelines.store.folders import ModelStore, find_pulled
from pipelines.store.records import StoredFile, StoredModel

__all__ = [
    "ModelStore",
    "StoredFile",
    "StoredModel",
    "find_pulled",
]
