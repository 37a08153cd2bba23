"""The comparison in one page that opens offline, and the same numbers as CSV."""
