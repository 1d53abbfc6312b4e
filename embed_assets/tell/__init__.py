"""What people are shown: metadata, lineage, summaries, pictures."""
