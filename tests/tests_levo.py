"""Configurations of published sizes, for tests."""

from __future__ import annotations

from songgen.models.levo.inspect import published_config as published

__all__ = ["published"]
