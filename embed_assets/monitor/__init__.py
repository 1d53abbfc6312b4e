"""`embed-assets monitor`: a page, a JSON API and metrics from the lake alone, which it only reads."""
