"""Reading: trace files (with numpy) and live traces (with pyzmq, too)."""
