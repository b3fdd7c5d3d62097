"""Recording: what writes route records into a ring. Needs nothing but the standard library."""
