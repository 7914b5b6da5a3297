"""Signing: from bundles to a repository that a fleet of gateways follows (The Update Framework, by python-tuf).

`keys.py` holds the keys and the chain of roots, `repository.py` the signed repository, `announce.py` the message that tells of it.
"""
