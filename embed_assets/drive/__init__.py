"""From partitions to be made to committed ones. No Dagster in here."""
