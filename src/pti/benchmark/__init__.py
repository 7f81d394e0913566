"""Speed of this machine, in suites of comparisons."""
