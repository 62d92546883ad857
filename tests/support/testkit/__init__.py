"""Helpers of our tests that a spawned process must be able to import. What users need too is in locksmith.testing."""
