"""The report of a benchmark: its findings as a page, as text, as curves and as pictures; and pictures of units."""
