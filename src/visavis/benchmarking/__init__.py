"""A benchmark: many methods on many pictures, a shard of results at a time, and what its results add up to."""
