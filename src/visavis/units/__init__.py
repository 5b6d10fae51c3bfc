"""The units of a network seen one by one: which class dies when a unit does, and whether one can tell beforehand."""
