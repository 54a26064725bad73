"""Everything that a broken producer may write, and good records between it, against a real `steadyrank ingest`."""
