"""What the bench starts as processes of their own, by file; most run in environments that have no embed_assets."""
