"""The front door against Polars alone: reviews to rows, rows to strides, on all cores."""
