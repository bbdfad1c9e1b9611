"""The central plane: report streams in, decisions and commands out."""
