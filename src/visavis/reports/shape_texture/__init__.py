"""The pictures of a study of shape and texture: each a function from results to a figure."""
