"""Recording: what writes route records into a ring. Needs only the standard library."""
