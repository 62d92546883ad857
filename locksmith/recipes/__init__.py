"""What stands on the store interface alone. Each recipe is pure where it can be; the two faces give it their verbs."""
