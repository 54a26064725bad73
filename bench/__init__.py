"""What the parts can do on this machine, beside what the machine itself can, in one run: only ratios compare."""
