"""What happens between a user's call and a store's answer. No clock and no socket of its own: both are passed in."""
