"""From sources to rows in the lake: reading, snapshots, strides."""
