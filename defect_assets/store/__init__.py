"""Immutable objects and tables under their digests, and named references to them."""

from defect_assets.store.access import S3Access
from defect_assets.store.backend import Backend, NotInStore, StoreUnavailable
from defect_assets.store.digest import Corrupted, Digest, canonical_json, digest_of, short
from defect_assets.store.leases import StoreBusy
from defect_assets.store.refs import RefConflict
from defect_assets.store.store import Record, Store, open_store

__all__ = [
    "Backend",
    "Corrupted",
    "Digest",
    "NotInStore",
    "Record",
    "RefConflict",
    "S3Access",
    "Store",
    "StoreBusy",
    "StoreUnavailable",
    "canonical_json",
    "digest_of",
    "open_store",
    "short",
]
