"""Environments: users, items and sessions behind the interface of Gymnasium, and the ids they are registered under."""
