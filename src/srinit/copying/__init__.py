"""Copies of networks: every copy is made here, and compared with its original before it is used."""

from srinit.copying.copies import Pairs, detached_copy, detached_copy_again, initialized
from srinit.copying.hooks import has_own_hooks

__all__ = ["Pairs", "detached_copy", "detached_copy_again", "has_own_hooks", "initialized"]
