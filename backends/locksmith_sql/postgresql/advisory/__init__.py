"""`postgresql://...?mode=advisory`: session advisory locks. See docs/stores/postgresql.md."""
