"""The fixtures of a real PostgreSQL."""

from tests.support.postgres import database, migrated, postgres

__all__ = ["database", "migrated", "postgres"]
