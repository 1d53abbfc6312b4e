"""The steps that need no GPU: reading a source, cutting a snapshot."""
