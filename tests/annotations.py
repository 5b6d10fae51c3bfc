"""The checker of annotations that the tests run under."""

from beartype import BeartypeConf, beartype

#: Takes an int where a float is annotated, as PEP 484 has it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
