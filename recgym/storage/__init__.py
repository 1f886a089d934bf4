"""Files: written whole or not at all, read with a check of every byte, kept in a cache, fetched once."""
