"""User studies: pairs of clips that people compare, from the sheets to the win rates."""
