"""The classes that most users need: :class:`CoatModel` answers and thinks, :class:`CoatTrainer` tunes."""
