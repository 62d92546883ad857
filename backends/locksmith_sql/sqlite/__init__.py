"""SQLite: leases in one file, for all processes of one host."""
