"""Immutable objects and tables under their digests, and named references to them."""

from defect_assets.store.backend import Backend, NotInStore
from defect_assets.store.digest import Digest, canonical_json, digest_of, short
from defect_assets.store.objects import Corrupted
from defect_assets.store.refs import RefConflict
from defect_assets.store.store import Record, Store, open_store

__all__ = [
    "Backend",
    "Corrupted",
    "Digest",
    "NotInStore",
    "Record",
    "RefConflict",
    "Store",
    "canonical_json",
    "digest_of",
    "open_store",
    "short",
]
