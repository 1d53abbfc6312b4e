"""The whole system from outside: a small copy of the demo, the Dagster UI's API, a browser."""
