"""Values that all parts of the core share. They decide nothing."""
