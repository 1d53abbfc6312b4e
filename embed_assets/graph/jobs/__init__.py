"""Jobs over all assets of a pipeline, of any scatter of partitions."""
