"""What stands behind the registered ids: one file per kind of environment, each makes a catalog and its users."""
