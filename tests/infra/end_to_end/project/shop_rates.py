"""A module beside the package, which only the package's tasks name."""

RATES = {"EUR": 1, "SEK": 11}
