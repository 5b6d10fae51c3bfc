"""The report of a benchmark: its findings as a page, as text, as curves and as pictures."""
