"""User models fitted to a log: what people answer to items they never met, and when they leave."""
