"""Arms of one recipe, trained and evaluated alike over seeds, and compared."""
